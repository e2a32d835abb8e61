"What reaches the networks: real batches of real stages, whose autoencoder has a fitted scale."
import dataclasses
import pytest, torch
from common import photographs
from d2it_nb import dvae_stage
from d2it_nb.dvae import DVAE, sample_codes
from d2it_nb.core import load_net, seed_all
from d2it_nb.evaluate import MAPS
from d2it_nb.grain import on_finest, share_noise
from d2it_nb.lab import runs, tables
from d2it_nb.reconstruction import at_random, shuffled
from d2it_nb.calibration import load_calibration
from d2it_nb.diffusion import process
from d2it_nb.train import STAGES, parse, train

@pytest.fixture(scope='module')
def d(tmp_path_factory):
    "An autoencoder, trained as the paper trains it: at r = ½, undisturbed"
    d = tmp_path_factory.mktemp('trained')
    train('dvae', parse(['dvae', '--preset', 'tiny', '--steps', '4', '--avatars', '256', '--ratio', '0.5', '--p_disturb', '0',
                                '--out', str(d/'dvae')])[1])
    return d

def built(d, stage, *flags):
    "The configuration, and the stage with its data"
    cfg = parse([stage, '--preset', 'tiny', '--avatars', '256', '--out', str(d/'x'), '--dvae', str(d/'dvae'),
                        '--latents', str(d/'latents'), *flags])[1]
    return cfg, STAGES[stage].open(cfg)

def heard(stage, b):
    "What the network is asked in a step: its arguments"
    asked = []
    def network(*args):
        asked[:] = args
        return torch.zeros_like(args[0])
    stage.loss(network, b, 0)
    return asked

def test_a_dit_sees_all_fine(d):
    "Whatever ratio is asked for"
    _, dit = built(d, 'content', '--net', 'dit', '--ratio', '0.5')
    b = dit.samples.__getitems__(list(range(32)))
    assert (b.M == 1).all() and (heard(dit, b)[3] == 1).all()
    _, other = built(d, 'content', '--ratio', '0.5', '--p_disturb', '0')
    assert .3 < other.samples.__getitems__(list(range(32))).M.double().mean() < .7

def test_codes_are_normalised_once(d):
    "From what the network sees, with the noise taken off: codes minus shift, times scale, which have variance 1"
    cfg, stage = built(d, 'content', '--ratio', '0.5', '--p_disturb', '0')
    vae = load_net(d/'dvae'/'model', DVAE)
    assert vae.scale.std() > .05 and (vae.scale - 1).abs().max() > .1 and vae.shift.abs().max() > .05      # a scale that can be told from none
    b = stage.samples.__getitems__(list(range(64)))
    z_t, t, _, M = heard(stage, b)[:4]
    diff = process(cfg.schedule)
    a, s = diff.at(t, z_t)
    z0 = (z_t - s*share_noise(b.e, M, 2))/a
    raw = sample_codes(b.moments, M, b.e_code)
    cells = on_finest(M, 2)[:, 0]
    want = (raw - vae.shift[cells].movedim(-1, 1))*vae.scale[cells].movedim(-1, 1)
    clear = (a > .05).flatten()                               # elsewhere the division by a leaves few digits
    torch.testing.assert_close(z0[clear], want[clear], atol=1e-3, rtol=1e-3)
    for g in (0, 1):
        codes = want.movedim(1, -1)[cells == g]
        assert (codes.mean(0).abs() < .3).all() and (codes.std(0) - 1).abs().max() < .3

@pytest.mark.parametrize('stage,share', [('content', .1), ('content', 0.), ('content', .5), ('grain', .1)])
def test_the_share_without_label(d, stage, share):
    _, s = built(d, stage, '--drop', str(share))
    y = s.samples.__getitems__(list(range(600))).y
    none = (y == 6).double().mean().item()                    # of six styles
    assert abs(none - share) < 4*(share*(1 - share)/600)**.5 + 1e-9
    assert set(y[y < 6].tolist()) == set(range(6))

def test_the_scale_is_that_of_stage_2(d, monkeypatch):
    "It is fitted on the maps that stage 2 will use: the row's ratio, undisturbed"
    found = []
    for ratio in ('0.25', '0.5', '0.75'):
        seen = []
        fit = dvae_stage.fit_scale
        def look(net, batches):
            batches = list(batches)
            seen.extend(M for _, M, _ in batches)
            return fit(net, batches)
        monkeypatch.setattr(dvae_stage, 'fit_scale', look)
        cfg = parse(['dvae', '--preset', 'tiny', '--avatars', '256', '--ratio', ratio, '--p_disturb', '.9', '--out', str(d/'dvae')])[1]
        stage = STAGES['dvae'].open(cfg)
        stage.finish(stage.net, n=512)
        monkeypatch.setattr(dvae_stage, 'fit_scale', fit)
        fitted = torch.cat(seen).double().mean().item()
        _, content = built(d, 'content', '--ratio', ratio, '--p_disturb', '0')
        used = content.samples.__getitems__(list(range(256))).M.double().mean().item()
        assert abs(fitted - used) < .08
        found.append(fitted)
    assert found[0] + .1 < found[1] < found[2] - .1

@pytest.mark.parametrize('ratio', [0, 1])
def test_the_scale_of_one_grain(d, ratio):
    "All coarse or all fine: the scale is that of all codes of that grain, the other grain's is left alone"
    cfg = parse(['dvae', '--preset', 'tiny', '--avatars', '256', '--ratio', str(ratio), '--p_disturb', '0', '--out', str(d/'dvae')])[1]
    stage = STAGES['dvae'].open(cfg)
    net = stage.net
    stage.finish(net, n=512)
    assert (net.shift[1 - ratio] == 0).all() and (net.scale[1 - ratio] == 1).all() and (net.shift[ratio] != 0).all()
    x = stage.samples.__getitems__(list(range(64))).x
    M = torch.full((64, 4, 4), ratio)
    z = net.encode(x, M)
    assert (z.mean((0, 2, 3)).abs() < .2).all() and ((z.std((0, 2, 3)) - 1).abs() < .2).all()

def test_the_papers_presets():
    "As the paper has them, and DiT's conventions where it is silent"
    common = dict(batch=256, lr=1e-4, warmup=0, decay='constant', wd=0., beta2=.999, ema='0.9999', ratio='0.5', p_disturb=0., drop=.1,
                  net='d2it', schedule='linear', predict='', loss='code', refine='residual', learn_sigma=True, pos='learned',
                  window=8, depth=-1, refine_depth=-1, min_snr=0.)
    table = dict(B=dict(model='B', steps=250_000), L=dict(model='L', steps=4_000_000), XL=dict(model='XL', steps=4_000_000))
    for preset, more in table.items():
        cfg = STAGES['content'].Config(**STAGES['content'].presets[preset])
        assert {k: getattr(cfg, k) for k in common | more} == common | more, preset
    grain = STAGES['grain'].Config(**STAGES['grain'].presets['paper'])
    want = dict(model='S', steps=4_000_000, batch=256, lr=1e-4, ema='0.9999', ratio='0.5', p_disturb=0., drop=.1, design='gaussian')
    assert {k: getattr(grain, k) for k in want} == want
    dvae = STAGES['dvae'].Config(**STAGES['dvae'].presets['paper'])
    want = dict(model='base', size=256, factors='8,16', z=4, ratio='0.5', p_disturb=0., maps='entropy', lr=1e-4)
    assert {k: getattr(dvae, k) for k in want} == want

@pytest.mark.parametrize('table', list(tables.TABLES))
@pytest.mark.parametrize('shared', [False, True])
def test_tables_are_trained_at_their_ratio(table, shared, tmp_path, monkeypatch):
    "Each row's autoencoder, maps and content transformer: the row's ratio, undisturbed; or one autoencoder of any ratio"
    asked = []
    monkeypatch.setattr(tables, 'train_runs', lambda stage, todo, jobs=2: asked.extend((stage, out, flags) for out, flags in todo.items()))
    photographs(tmp_path/'photos', 12, classes=())
    tables.paper(table, tmp_path/'photos', 'paper', seeds=1, runs=tmp_path/'runs', measure=False, share_dvae=shared)
    configs = [(stage, parse(runs.as_words(stage, out, **flags))[1]) for stage, out, flags in asked]
    dvaes = {cfg.out: cfg for stage, cfg in configs if stage == 'dvae'}
    assert len(dvaes) == 1 or not shared
    for cfg in dvaes.values():
        if shared:
            assert (cfg.factors, cfg.ratio, cfg.p_disturb) == ('8,16', 'uniform', .15)
        elif cfg.factors == '8,16':
            assert (cfg.p_disturb, cfg.ratio) == (0., str(float(cfg.ratio)))
    for stage, cfg in configs:
        if stage == 'dvae':
            continue
        of = dvaes[cfg.dvae]
        assert cfg.p_disturb == 0. and cfg.latents == str(of.out).replace('/dvae', '/latents')
        if not shared and of.factors == '8,16':
            assert float(cfg.ratio) == float(of.ratio)
        if stage == 'content' and cfg.net == 'dit' and not shared:
            assert (of.factors, cfg.patch) in (('8', 2), ('16', 1))
        if stage == 'content' and cfg.net == 'd2it':
            assert of.factors == '8,16'
        assert (cfg.drop == 1) == (table not in ('table2', 'fig6')) and cfg.steps == round({'table3': 50, 'table4': 50, 'fig5': 50, 'fig6': 80}.get(table, 800)*12/256) or stage == 'grain'

def test_random_maps_differ():
    "Each picture has its own permutation"
    M = (torch.arange(64).view(1, 8, 8) < 24).long().expand(16, -1, -1)
    items = list(range(16))
    rngs = [torch.Generator().manual_seed(i) for i in items]
    for maps in (MAPS['random'](M, 2, rngs), shuffled(lambda E, items: M)(None, items), at_random(.4)(torch.zeros(16, 8, 8), items)):
        assert len({tuple(m.flatten().tolist()) for m in maps}) == 16

def test_a_cell_of_the_map_is_where_it_is():
    "One fine cell, off the diagonal: codes are scaled, and pixels change, in its place and not in the mirrored one"
    seed_all(0)
    net = DVAE((4, 8), ch=16, mult=(1, 1), n_res=1, attn=False, patch=4, pos=False)
    net.shift[1] += 1
    coarse = torch.zeros(1, 8, 8).long()
    one = coarse.clone()
    one[0, 1, 6] = 1
    z = torch.randn(1, 4, 16, 16)
    moved = (net.denormalize(z, one) - net.denormalize(z, coarse)).abs().sum(1)[0].nonzero()
    assert set(map(tuple, moved.tolist())) == {(2, 12), (2, 13), (3, 12), (3, 13)}
    with torch.no_grad():
        change = (net.decoder(z, one) - net.decoder(z, coarse)).abs().sum(1)[0]
    cells = change.view(8, 8, 8, 8).mean((1, 3))              # of 8 × 8 pixels
    assert divmod(cells.argmax().item(), 8) == (1, 6) and cells[1, 6] > 3*cells[6, 1]
