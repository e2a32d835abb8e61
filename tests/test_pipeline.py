"What the pipeline's notebook does not show: batches with fresh noise at every step, labels, three grains."
import inspect
import pytest, torch
from safetensors.torch import load_file
from d2it_nb.content_transformer import d2it
from d2it_nb.core import digest, seed_all
from d2it_nb.dvae import dvae
from d2it_nb.grain import grain_map, is_block_constant, on_finest, share_noise
from d2it_nb.pipeline import D2iTPipeline
from d2it_nb.calibration import Calibration

@pytest.fixture(scope='module')
def pipe():
    return D2iTPipeline.load()

def near(a, b):
    torch.testing.assert_close(a, b, atol=2e-3, rtol=1e-3)

def test_batches_and_numbers_with_fresh_noise_at_every_step(pipe):
    how = dict(steps=4, sampler='ddpm')
    s = pipe.generate(range(5), n=5, seed=2, **how)
    count = []
    t = pipe.generate(range(5), s.M, n=5, seed=2, batch=2, each=lambda _: count.append(1), **how)
    near(s.z, t.z)
    near(s.x, t.x)
    assert len(count) == 12
    R = torch.zeros(5, 8, 8, dtype=torch.bool)
    for i in range(5):
        R[i, i, 7 - i] = R[i, 2*i % 7, i] = True
    e,f = (pipe.edit(s, region=R, seed=9, batch=b, **how) for b in (5, 2))
    near(e.z, f.z)
    # image i is image i, alone or not
    for i in (0, 3):
        near(pipe.edit(s[i], region=R[i], seed=9, **how).z, e.z[i:i + 1])
    changed = (e.z != s.z).any(1)
    assert torch.equal(changed, on_finest(R.long()).bool()[:, 0] & changed) and changed.flatten(1).any(1).all()
    assert torch.equal(e.x, pipe.decode(e.z, e.M)) and e.seeds == s.seeds and e.settings['seed'] == 9

def test_an_edit_remembers_its_noise(pipe):
    s = pipe.generate('roses', n=1, seed=0, steps=4)
    R = torch.zeros(8, 8, dtype=torch.bool)
    R[2:5, 3] = True
    a = pipe.edit(s, region=R, seed=9, steps=4)
    near(pipe.edit(a, region=R, steps=4).z, a.z)
    assert (pipe.edit(s, region=R, steps=4).z - a.z).abs().max() > .1

def test_edit_has_labels_and_intervals(pipe):
    s = pipe.generate('roses', n=1, seed=0, steps=3)
    R = torch.ones(8, 8, dtype=torch.bool)
    how = dict(region=R, seed=0, steps=3)
    def z(**kw):
        return pipe.edit(s, **(how | kw)).z
    assert (torch.equal(z(), z(label='roses')) and
            not torch.equal(z(), z(label='sunflowers')) and
            not torch.equal(z(), z(label=None)) and
            pipe.edit(s, label=None, **how).y.item() == len(pipe.classes))
    assert (not torch.equal(z(cfg=4.), z(cfg=4., interval=(500, 1000))) and
            torch.equal(z(cfg=4., interval=(5000, 6000)), z(cfg=1.)))

def test_drawn_maps_know_the_wishes(pipe):
    for kw in (dict(), dict(temperature=.3), dict(ratio=.25)):
        assert torch.equal(pipe.generate(['roses', 'tulips'], n=2, seed=3, steps=1, **kw).M,
                           pipe.draw_map(['roses', 'tulips'], n=2, seed=3, **kw))
    assert (not torch.equal(pipe.draw_map('roses', n=8), pipe.draw_map('daisy', n=8)) and
            pipe.generate(None, steps=1).y.item() == 5 == pipe.encode(torch.zeros(3, 64, 64)).y.item())

def test_a_picture_busy_in_one_corner_is_fine_there(pipe):
    x = torch.zeros(1, 3, 64, 64)
    x[..., :16, 40:] = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))*2 - 1
    want = torch.zeros(1, 8, 8).long()
    want[:, :2, 5:] = 1
    assert torch.equal(pipe.map_of(x), want)

def test_the_film_begins_with_the_noise(pipe):
    M = torch.zeros(1, 8, 8).long()
    M[:, 1, 6] = 1
    first = next(pipe.film('roses', M, seed=5, steps=3))
    assert torch.equal(first.x, share_noise(pipe._start([(5, 0)], M)[1], M))

def test_whole_precision_when_asked(pipe, tmp_path):
    for half,t in ((True, torch.float16), (False, torch.float32)):
        pipe.save(tmp_path/str(half), half)
        assert {v.dtype
                for v in load_file(tmp_path/str(half)/'content.safetensors').values()
                if v.is_floating_point()} == {t}

def test_three_grains():
    seed_all(0)
    vae = dvae('tiny', (4, 8, 16)).eval()
    cal = Calibration(16, 64)
    x = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))*2 - 1
    x[:, :, :32] *= torch.linspace(0, 1, 6).view(6, 1, 1, 1)
    x[:, :, 32:, :32] = x[:, :, 32:, :32].mean()
    cal.update(cal.scores(x))
    vae.meta = dict(id=digest(vae), size=64, classes=['a'])
    net = d2it('tiny', 1, grid=(4, 4), k=3, window=4)
    net.meta = dict(dvae=vae.meta['id'], id='x', classes=['a'])
    with torch.no_grad():
        for p in net.parameters():
            p.add_(.02*torch.randn_like(p))
    pipe = D2iTPipeline(vae, net, cal)
    M = pipe.map_of(x, .5)
    assert torch.equal(M, grain_map(cal.scores(x), cal.thresholds([.5, .25]))) and M.max() == 2
    s = pipe.encode(x, M)
    assert is_block_constant(s.z, M, 3)
    R = torch.zeros(4, 4, dtype=torch.bool)
    R[0, 3] = True
    e = pipe.edit(s, region=R, seed=1, steps=3)
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[:4, 12:] = True
    assert torch.equal((e.z != s.z).any(1).any(0), inside) and is_block_constant(e.z, M, 3)

def test_an_editor_completes_what_follows_the_dot():
    "Editors read the source and run nothing: a method that is added at run time, they don't know"
    jedi = pytest.importorskip('jedi')
    code = 'from d2it_nb.pipeline import D2iTPipeline\npipe = D2iTPipeline.load()\npipe.'
    found = {c.name: c for c in jedi.Script(code).complete()}
    for verb in ('generate', 'edit', 'encode', 'decode', 'film', 'trace', 'draw_map', 'map_of',
                 'labels', 'maps', 'pixels', 'pace', 'load', 'save', 'card'):
        own = inspect.signature(getattr(D2iTPipeline, verb)).parameters
        named = [name for name in own if name not in ('self', 'more')]
        told, = found[verb].get_signatures()
        assert [p.name for p in told.params if p.name in named] == named, verb
    # what comes out is known, too
    after = jedi.Script(code + "generate('roses').").complete()
    assert {'x', 'z', 'M', 'images', 'settings'} <= {c.name for c in after}
