"The loop against one written out by hand; and what it keeps, allows and leaves out."
import contextlib, dataclasses, json, math, shutil
from functools import partial
import pytest, torch
from d2it_nb import grain_stage, plan, run, train as engine
from d2it_nb.checkpoint import load_checkpoint, read_part, steps_in
from d2it_nb.config import free_flags
from d2it_nb.content_transformer import D2iT
from d2it_nb.core import keyed_seed, load_net, save_net, seed_all, sha256
from d2it_nb.data import read_image
from d2it_nb.dvae import DVAE
from d2it_nb.watch import read_log

@pytest.fixture(scope='module')
def d(tmp_path_factory):
    d = tmp_path_factory.mktemp('engine')
    engine.train('dvae', engine.parse(['dvae', '--preset', 'tiny', '--steps', '2', '--out', str(d/'dvae')])[1])
    return d

def config(d, name, **more):
    return dataclasses.replace(engine.parse(['content', '--preset', 'tiny', '--out', str(d/name),
                                             '--dvae', str(d/'dvae'), '--latents', str(d/'latents')])[1], **more)

def test_stage_1_begins_as_a_linear_code(d, tmp_path):
    "The error of the very first step: of principal components, or by chance"
    def first(*flags):
        out = tmp_path/flags[-1]
        engine.train('dvae', engine.parse(['dvae', '--preset', 'tiny', '--steps', '1', '--out', str(out), *flags])[1])
        return read_log(out/'log.jsonl')[0]['l1']
    linear,chance = (first('--linear', word) for word in ('true', 'false'))
    assert linear == read_log(d/'dvae'/'log.jsonl')[0]['l1'] and linear < .3*chance

def test_four_steps_by_hand(d):
    ("AdamW (Loshchilov & Hutter 2019) with decay of the weights, a clip that binds, "
     "warm-up, then a line down to zero; the average with its own warm-up")
    cfg = config(d, 'hand', steps=4, lr=1e-2, warmup=1, decay='linear', wd=.1, beta2=.9, clip=.05, ema='0.9',
                 batch=4, save_every=1, keep=4)
    engine.train('content', cfg)
    saved = {n: path for n,path in steps_in(d/'hand'/'checkpoints')}
    seed_all(keyed_seed(cfg.seed, 'init-content') % 2**32)
    stage = engine.ContentStage.open(cfg)
    net = stage.net
    ps = {k: v for k,v in net.named_parameters() if v.requires_grad}
    m,v = ({k: torch.zeros_like(w) for k,w in ps.items()} for _ in range(2))
    avg = {k: w.detach().clone() for k,w in ps.items()}
    for step,lr in enumerate((.5e-2, 1e-2, 1e-2*2/3, 1e-2/3)):
        loss = stage.loss(net, stage.samples.__getitems__(list(range(4*step, 4*step + 4))), step)[0]
        g = dict(zip(ps, torch.autograd.grad(loss, list(ps.values()), allow_unused=True)))
        norm = torch.stack([x.pow(2).sum() for x in g.values() if x is not None]).sum().sqrt()
        assert norm > .05
        with torch.no_grad():
            for k,w in ps.items():
                if g[k] is None:
                    continue
                x = g[k]*.05/(norm + 1e-6)
                m[k] += .1*(x - m[k])
                v[k] += .1*(x*x - v[k])
                w -= lr*.1*w + lr*(m[k]/(1 - .9**(step + 1)))/((v[k]/(1 - .9**(step + 1))).sqrt() + 1e-8)
            for k,w in ps.items():
                avg[k] += (1 - (1 + step)/(10 + step))*(w - avg[k])
        for part,ours in dict([('net', ps), ('ema-0.9', avg)]).items():
            theirs = read_part(saved[step + 1], part)
            for k,w in ours.items():
                torch.testing.assert_close(theirs[k], w.detach(), rtol=1e-3, atol=2e-5,
                                           msg=f'step {step + 1} {part} {k}')

@pytest.mark.parametrize('stage', ['dvae', 'grain'])
def test_a_batch_in_parts(d, stage):
    "Four micro-batches of two, or eight at once: the same losses, gradients, and weight of the discriminator"
    logs = []
    for micro in (2, 8):
        out = d/f'{stage}-{micro}'
        where = [] if stage == 'dvae' else ['--dvae', str(d/'dvae'), '--latents', str(d/'latents')]
        engine.train(stage, engine.parse([stage, '--preset', 'tiny', '--out', str(out), *where, '--lr', '1e-4',
                                          '--steps', '10', '--micro', str(micro)])[1])
        logs.append(read_log(out/'log.jsonl'))
    for key, rtol in dict(loss=2e-5, norm_net=1e-3, gan_weight=1e-3).items():
        parts, whole = (torch.tensor([line[key] for line in log if key in line]) for log in logs)
        assert len(parts) == (10 if key != 'gan_weight' else 5 if stage == 'dvae' else 0)
        torch.testing.assert_close(parts, whole, atol=0, rtol=rtol)

def test_checkpoints_that_a_run_keeps(d):
    engine.train('content', config(d, 'kept', steps=10, save_every=2, keep=1, keep_every=4))
    assert [n for n,_ in steps_in(d/'kept'/'checkpoints')] == [10, 8, 4]

def test_autocast_is_used_and_remembered(d):
    seen = []
    def bf16(cfg):
        lines = list(engine.fit('content', cfg))
        seen.append([l['loss'] for l in lines])
        return seen[-1]
    off = bf16(config(d, 'off', steps=6))
    on = bf16(config(d, 'on', steps=6, amp='on'))
    assert off != on and all(abs(a - b) < .02 for a,b in zip(off, on))
    assert bf16(config(d, 'again', steps=3, amp='on')) + bf16(config(d, 'again', steps=6, amp='on')) == on
    assert load_checkpoint(d/'on'/'checkpoints')[0]['net']['trunk.embed.weight'].dtype == torch.float32

def test_what_auto_meant_at_the_start_holds(d, monkeypatch):
    "bf16 was faster on the machine where the run began; on the next one nothing is tried, whatever is left of the run"
    seen = []
    monkeypatch.setattr(run, 'quickest', lambda *a: (True, 'contiguous'))
    seen += [l['loss'] for l in engine.fit('content', config(d, 'auto', steps=3, amp='auto'))]
    monkeypatch.setattr(run, 'quickest', lambda *a: pytest.fail('tried again'))
    (d/'auto'/'run.json').write_text('{')                     # the checkpoint knows, too
    seen += [l['loss'] for l in engine.fit('content', config(d, 'auto', steps=5, amp='auto'))]
    seen += [l['loss'] for l in engine.fit('content', config(d, 'auto', steps=6, amp='auto'))]
    assert seen == [l['loss'] for l in read_log(d/'on'/'log.jsonl')]

def test_a_baseline_on_a_plain_autoencoder_is_tried_and_trained(d):
    "One grain: its maps are all zeros, also where steps are tried and counted"
    flags = ['--preset', 'tiny', '--steps', '2', '--factors', '4', '--out', str(d/'plain'/'dvae')]
    engine.train('dvae', engine.parse(['dvae', *flags])[1])
    cfg = engine.parse(['content', '--preset', 'tiny', '--amp', 'auto', '--net', 'dit', '--patch', '2', '--steps', '2', '--out', str(d/'plain'/'dit')])[1]
    engine.train('content', cfg)
    stage = engine.ContentStage.open(cfg)
    assert (stage.example_batch(3).M == 0).all() and stage.net.config['grid'] == [4, 4]

def test_channels_last(d):
    "The same autoencoder within rounding, and the same run to the last bit after a stop"
    def flags(name, layout, steps):
        return engine.parse(['dvae', '--preset', 'tiny', '--lr', '1e-4', '--layout', layout, '--out', str(d/name), '--steps', str(steps)])[1]
    def losses(name):
        return [l['loss'] for l in read_log(d/name/'log.jsonl')]
    engine.train('dvae', flags('plain', 'contiguous', 8))
    engine.train('dvae', flags('last', 'channels_last', 8))
    torch.testing.assert_close(torch.tensor(losses('plain')), torch.tensor(losses('last')), rtol=1e-4, atol=0)
    engine.train('dvae', flags('last-cut', 'channels_last', 4))
    engine.train('dvae', flags('last-cut', 'channels_last', 8))
    assert losses('last-cut') == losses('last')
    assert load_net(d/'last-cut'/'model', DVAE).meta['id'] == load_net(d/'last'/'model', DVAE).meta['id']

@pytest.mark.parametrize('stage', list(engine.STAGES))
def test_only_what_cannot_change_the_run_may_change_on_resume(stage):
    "Everything else is refused by name"
    free = set('init snapshots out data dvae latents vgg lr warmup clip skip amp layout tf32 steps micro workers device timeout parallel '
               'compile recompute packed log_every logger save_every keep keep_every eval_every eval_n '
               'eval_guide'.split())
    may_change = free_flags(engine.STAGES[stage].Config)
    for f in dataclasses.fields(engine.STAGES[stage].Config):
        if f.name in free:
            assert run.check_same({f.name: 1}, {f.name: 2}, may_change) == f'{f.name} was 1, now 2'
        else:
            with pytest.raises(ValueError, match=f'{f.name} was 1, now 2'):
                run.check_same({f.name: 1}, {f.name: 2}, may_change)

def test_the_plan_is_made_once(d, monkeypatch):
    "A run goes on with its batch cut as it was, whatever memory there is now"
    monkeypatch.setattr(plan, 'free_memory', lambda: math.inf)
    cfg = config(d, 'plan', steps=2)
    engine.train('content', cfg)
    monkeypatch.setattr(run, 'plan', lambda *a: pytest.fail('planned again'))
    engine.train('content', dataclasses.replace(cfg, steps=4))

def test_a_number_of_threads_is_kept(d, monkeypatch):
    "Tried once; a resume repeats it, as far as there are so many"
    used = []
    monkeypatch.setattr(run, 'threads_for', lambda *a: 2)
    monkeypatch.setattr(engine, 'threads', lambda n: used.append(n) or contextlib.nullcontext())
    monkeypatch.setattr(engine.torch, 'get_num_threads', lambda: 3)
    engine.train('content', config(d, 'threads', steps=1))
    monkeypatch.setattr(run, 'threads_for', lambda *a: pytest.fail('tried again'))
    engine.train('content', config(d, 'threads', steps=2))
    monkeypatch.setattr(engine.torch, 'get_num_threads', lambda: 1)
    engine.train('content', config(d, 'threads', steps=3))
    assert used == [2, 2, 1]

def test_what_is_measured_is_saved(d):
    "A run that is cut off while it measures must have the network that it measured"
    engine.train('content', config(d, 'seen', steps=4, eval_every=2, eval_n=4, save_every=100, keep=4))
    assert [n for n,_ in steps_in(d/'seen'/'checkpoints')] == [4, 2]

def test_a_discriminator_that_comes_later_is_counted(d):
    "It needs its memory from the start on; the operations are those of the first step"
    def cost(*flags):
        cfg = engine.parse(['dvae', '--preset', 'tiny', '--out', str(d/'dvae'), *flags])[1]
        return plan.cost(engine.DVAEStage.open(cfg), 8)
    judged, late, alone = (cost(*flags) for flags in (['--gan_start', '0'], ['--gan_start', '5'], ['--w_gan', '0']))
    assert judged['bytes'] == late['bytes'] > alone['bytes']
    assert judged['flops'] > late['flops'] == alone['flops']

def test_a_watched_content_transformer(d):
    "Sixteen held-out pictures in two bands: pictures, maps, samples; and noise that is easily seen as noise"
    engine.train('content', config(d, 'watched', steps=4, eval_every=4, eval_n=17))
    row, = read_log(d/'watched'/'eval.jsonl')
    assert row['n'] == 17 and .2 < row['loss'] < 1 and row['pFD'] > 0 and row['time3'] < row['time0']
    picture = read_image(d/'watched'/'pictures'/'step-000004.png')
    assert picture.size == (8*32, 6*32)

def test_a_watched_grain_transformer(d, monkeypatch):
    "After twenty steps its maps do not look like real ones, and training maps do; by patterns, not by the classifier"
    monkeypatch.setattr(grain_stage, 'map_scores', partial(grain_stage.map_scores, steps=10))
    flags = ['--dvae', str(d/'dvae'), '--latents', str(d/'latents'), '--eval_every', '20', '--eval_n', '64']
    engine.train('grain', engine.parse(['grain', '--preset', 'tiny', '--out', str(d/'maps'), *flags])[1])
    held, training, drawn = read_log(d/'maps'/'eval.jsonl')
    assert [r['maps'] for r in (held, training, drawn)] == ['held out', 'training', 'drawn']
    assert held['pattern2'] == 0 and drawn['pattern2'] > 2*training['pattern2'] and 0 <= drawn['nearest'] <= 1

def test_votes_of_cells_and_no_refinement_are_trained(d):
    losses = {}
    for name, more in dict(code={}, cell=dict(loss='cell'), rough=dict(refine_depth=0)).items():
        engine.train('content', config(d, name, steps=2, **more))
        losses[name] = [line['loss'] for line in read_log(d/name/'log.jsonl')]
    # a new network says nothing: the first loss depends on the votes alone
    assert losses['code'][0] == pytest.approx(losses['rough'][0], rel=1e-6) and losses['cell'][0] != losses['code'][0]
    assert losses['rough'][1] != losses['code'][1]

def test_snapshots_of_averages(d):
    "As many as were asked for, of relative lengths only, the same after a stop; those beyond it are made again"
    flags = dict(ema='0.9,10%', snapshots=3, save_every=3)
    engine.train('content', config(d, 'snap', steps=6, **flags))
    engine.train('content', config(d, 'snap-cut', steps=5, save_every=1, **{k: flags[k] for k in ('ema', 'snapshots')}))
    def names(run):
        return sorted(f.name for f in (d/run/'averages').glob('*.safetensors'))
    assert names('snap') == [f'{step:07d}-10%.safetensors' for step in (2, 4, 6)]
    for step, path in steps_in(d/'snap-cut'/'checkpoints'):
        if step > 3:
            shutil.rmtree(path)
    assert len(names('snap-cut')) == 3                        # of five steps
    engine.train('content', config(d, 'snap-cut', steps=6, **flags))
    for step in (4, 6):
        a, b = (load_net(d/run/'averages'/f'{step:07d}-10%', D2iT) for run in ('snap', 'snap-cut'))
        for (k, v), w in zip(a.state_dict().items(), b.state_dict().values()):
            assert torch.equal(v, w), k
    assert '0000005-10%.safetensors' not in names('snap-cut')

def test_a_run_of_an_earlier_version_goes_on(d):
    "Its checkpoints do not know the flags that came later"
    engine.train('content', config(d, 'early', steps=1))
    path = steps_in(d/'early'/'checkpoints')[0][1]
    meta = json.loads((path/'meta.json').read_text())
    for flag in ('patch', 'init', 'snapshots'):
        del meta['config'][flag]
    (path/'meta.json').write_text(json.dumps(meta))
    manifest = json.loads((path/'manifest.json').read_text())
    (path/'manifest.json').write_text(json.dumps(manifest | {'meta.json': sha256(path/'meta.json')}))
    assert engine.train('content', config(d, 'early', steps=2))
    assert load_net(d/'early'/'model', D2iT).meta['step'] == 2

def test_a_warm_start(d, tmp_path):
    "Another run's weights, whole or in half precision; and once begun, the run needs them no more"
    engine.train('content', config(d, 'first', steps=3))
    first = load_net(d/'first'/'model', D2iT)
    save_net(tmp_path/'half', first, half=True, **first.meta)
    for n, (where, off) in enumerate(((d/'first', 1e-12), (tmp_path/'half', 2e-3))):
        engine.train('content', config(d, f'still-{n}', steps=1, lr=1e-30, init=str(where)))
        still = load_net(d/f'still-{n}'/'model', D2iT)
        assert still.meta['init'] == first.meta['id']
        for (k, a), b in zip(first.state_dict().items(), still.state_dict().values()):
            torch.testing.assert_close(a, b, rtol=off, atol=off, msg=k)
    flags = dict(save_every=2, init=str(tmp_path/'half'))
    engine.train('content', config(d, 'whole', steps=4, **flags))
    engine.train('content', config(d, 'cut', steps=2, **flags))
    (tmp_path/'half.json').unlink()
    engine.train('content', config(d, 'cut', steps=4, **flags))
    whole, cut = (load_net(d/name/'model', D2iT) for name in ('whole', 'cut'))
    assert whole.meta['id'] == cut.meta['id'] and whole.meta['init'] == cut.meta['init'] == first.meta['id']
    with pytest.raises(ValueError, match='began with --init .*half.*leave --init out'):
        engine.train('content', config(d, 'cut', steps=6, save_every=2, init=str(d/'first')))
    engine.train('content', config(d, 'cut', steps=6, save_every=2))
    engine.train('content', config(d, 'cut', steps=8, **flags))         # with the first command again
    assert load_net(d/'cut'/'model', D2iT).meta['init'] == first.meta['id']

def test_a_warm_start_that_does_not_fit(d):
    engine.train('content', config(d, 'small', steps=1))
    with pytest.raises(ValueError, match=r'does not fit this network: .* there, .* here; .*and \d+ more'):
        engine.train('content', config(d, 'large', model='nano', init=str(d/'small')))
    with pytest.raises(ValueError, match='a DVAE, but a D2iT|DVAE, but'):
        engine.train('content', config(d, 'other', init=str(d/'dvae')))
    with pytest.raises(FileNotFoundError, match='does not exist'):
        engine.train('content', config(d, 'nowhere', init=str(d/'no such run')))
