"On a device that only pretends to be one: nothing mixes devices, and no loop waits for the CPU but where a table says so."
from collections import Counter
import pytest, torch
from pretend import NAME, Pretend, watched
from d2it_nb import plan, train as engine
from d2it_nb.data import Avatars
from d2it_nb.dist import Ranks
from d2it_nb.editor import Editor
from d2it_nb.evaluate import evaluate
from d2it_nb.grain import exact_ratio
from d2it_nb.content_transformer import DiT, d2it
from d2it_nb.dvae import dvae
from d2it_nb.eye import Eye
from d2it_nb.extractors import extractor, lpips
from d2it_nb.grain_transformer import grain_net
from d2it_nb.order_transformer import OrderTransformer
from d2it_nb.pipeline import D2iTPipeline
from d2it_nb.samplers import SAMPLERS
from d2it_nb.vae_losses import PatchGAN
DEVICE = torch.device(NAME, 0)

@pytest.fixture(scope='module')
def demo():
    with watched():
        yield D2iTPipeline.load('demo', DEVICE)

def numbers(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(DEVICE)

def per_step(act, few=4, many=6)->dict: # what a step more costs: (kind, place) → how often
    found = []
    for steps in (few, many):
        with watched() as told:
            act(steps)
        found.append(told.places)
    return {key: n/(many - few) for key in found[1] if (n := found[1][key] - found[0][key])}

def test_the_device_notices(demo):
    with watched() as told:
        x = numbers(2, 3)
        torch.tensor(.5, device=DEVICE)
        assert x.device == DEVICE and isinstance(x + 1, Pretend) and (x - x).sum().item() == 0
        for act,says in ((lambda: x + torch.ones(2, 3), 'mixes devices'),
                         (lambda: torch.randn(3, device=DEVICE, generator=torch.Generator()), 'generator is on the CPU'),
                         (lambda: x.double(), 'float64')):
            with pytest.raises((RuntimeError, TypeError), match=says):
                act()
        x[x > 0]
        x[torch.tensor([0])]
        x.tolist()
        x.cpu()
    assert told.waits == Counter({'to the device': 2, 'item': 1, 'boolean index': 1, 'index from the CPU': 1,
                                  'tolist': 1, 'to the CPU': 1})

NETWORKS = {
    'D²iT, packed': lambda: d2it('tiny', 5, grid=(8, 8), c=4),
    'D²iT, dense': lambda: d2it('tiny', 5, grid=(8, 8), c=4, packed=False),
    'D²iT, three grains': lambda: d2it('tiny', 5, grid=(4, 4), c=4, k=3),
    'DiT': lambda: DiT((8, 8), 2, 4, 5, d=64, heads=2, depth=2, learn_sigma=False)}

@pytest.mark.parametrize('name', NETWORKS)
def test_content_transformers(name):
    net = NETWORKS[name]()
    k = getattr(net, 'k', 2)
    with watched() as told:
        net.to(DEVICE)
        side = 16//2**(k - 1)
        M = exact_ratio(torch.rand(2, side, side), .5 if k == 2 else [2/3, 1/3]).to(DEVICE)
        t,y = torch.tensor([5, 900], device=DEVICE),torch.tensor([1, 5], device=DEVICE)
        told.waits.clear()
        told.places.clear()
        net(numbers(2, 4, 16, 16), t, y, M).square().mean().backward()
        assert all(isinstance(p.grad, Pretend) for p in net.parameters() if p.requires_grad)
    packing = name in ('D²iT, packed', 'D²iT, three grains')
    assert told.waits['to the CPU'] == packing, told.places           # the map, to be packed: once

def test_other_networks():
    with watched():
        x = numbers(2, 3, 64, 64).clamp(-1, 1).requires_grad_()
        M = torch.ones(2, 8, 8, dtype=torch.long, device=DEVICE)
        y = torch.zeros(2, dtype=torch.long, device=DEVICE)
        vae = dvae('tiny', factors=(4, 8), linear=True).to(DEVICE)
        vae(x, M, numbers(2, vae.z, 16, 16))[0].mean().backward()
        for net in (PatchGAN(16), extractor(), Eye([*'ab'], 64, 8, 8)):
            net.to(DEVICE)(x).mean().backward()
        eye = lpips().to(DEVICE)
        eye(x, x.flip(0)).mean().backward()
        assert per_step(lambda n: [eye(x, x) for _ in range(n)], 1, 2) == {}
        for design in ('gaussian', 'masked', 'oneshot'):
            net = grain_net('tiny', 3, (8, 8), 2, design=design).to(DEVICE)
            net(numbers(2, 2, 8, 8), y + 3, y, numbers(2)).mean().backward()

def test_walks_wait_for_nothing(demo):
    "Transfers and synchronisations do not grow with the number of steps"
    M = exact_ratio(torch.rand(2, 8, 8), .5)
    R = torch.zeros(8, 8, dtype=torch.bool)
    R[2:5, 2:5] = True
    with watched():
        s = demo.generate(0, M[0], seed=1, steps=2, progress=False)
    assert isinstance(s.x, Pretend)
    def draw(**how):
        return lambda n: demo.generate(0, M[0], seed=1, steps=n, progress=False, **how)
    walks = {name: draw(sampler=name) for name in SAMPLERS}
    walks |= {'guided': draw(cfg=2., interval=(100, 700)), 'corrections kept': draw(refine_every=2),
              'edit': lambda n: demo.edit(s, s.M, R, steps=n, progress=False),
              'film': lambda n: list(demo.film(0, M[:1], 1, 3, steps=n)),
              'maps': lambda n: demo.draw_map(0, 1, 3, steps=n, progress=False),
              'all fine': lambda n: demo.generate([0], M[0]*0 + 1, seed=1, steps=n, progress=False)}
    assert {name: found for name,walk in walks.items() if (found := per_step(walk))} == {}

# each of these is asked not to wait
DATA = dict(dvae=4, grain=6, content=14)

@pytest.mark.parametrize('stage', DATA)
def test_a_step_of_training_waits_for_nothing(tmp_path, monkeypatch, stage):
    monkeypatch.setattr(plan, 'known_cost', lambda *_: dict(bytes=1e6, flops=1e6))
    codes = dict(dvae=str(tmp_path/'dvae'), latents=str(tmp_path/'latents')) if stage != 'dvae' else {}
    def run(stage, steps, out, ranks, **more):
        kind = engine.STAGES[stage]
        flags = kind.presets['tiny'] | dict(out=str(out), steps=steps, amp='off', log_every=100, save_every=100)
        with watched(double=True) as told:
            engine.train(stage, kind.Config(**flags | more), ranks)
        return told
    if codes:
        run('dvae', 2, tmp_path/'dvae', Ranks())
    few,many = (run(stage, steps, tmp_path/f'{stage}-{steps}', Ranks(device=DEVICE), **codes) for steps in (1, 2))
    grown = {key: many.places[key] - few.places[key] for key in many.places if many.places[key] != few.places[key]}
    kinds = Counter()
    for (kind,place),n in grown.items():
        kinds[kind] += n
    assert kinds == {'to the device, not waited for': DATA[stage]}, grown

def test_evaluation_and_the_editor(demo, tmp_path):
    "Without 64 bits, as on Apple's GPUs; and a stroke leaves the device alone"
    with watched():
        scores = evaluate(demo, tmp_path/'drawn', Avatars(64), n=8, part='held', steps=2, cache=tmp_path)['scores']
        assert scores['p KID'] > 0
        ed = Editor(demo, wait=True, steps=2)
        ed.open(Avatars(64).image(0))
        ed.buttons['all_fine'].click()
        ed.re_encode()
        assert 're-encoded' in ed.message, ed.error
        ed.wishes.label.value = 0
        with watched() as told:
            ed.paint([(1, 1), (2, 2)], 0)
        assert not told.waits, told.places
        ed.redraw()
        assert '2 cells redrawn' in ed.message, ed.error
        ed.from_scores()
        ed.draw_map()
        assert ed.save('session.json')[1]
