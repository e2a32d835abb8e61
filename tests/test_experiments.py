"The experiments, in small: a few steps on the bundled pictures."
import json
from functools import partial
from types import SimpleNamespace
import pytest
from common import finished, photographs
from d2it_nb import evaluate as evaluation
from d2it_nb.data import ImageFolder, split_dataset
from d2it_nb.lab import content, maps as lab_maps, runs, stage1, tables

@pytest.fixture
def forks(monkeypatch):
    "Training runs as forks; `test_stage1` starts real ones"
    def run(command, env, stdout, stderr):
        assert command[1:3] == ['-m', 'd2it_nb.train']
        r = finished('d2it_nb.train', *command[3:], env=env)
        stdout.write(r.stdout + r.stderr)
        return r
    monkeypatch.setattr(runs, 'subprocess', SimpleNamespace(run=run))

def test_stage1(tmp_path, monkeypatch):
    monkeypatch.setattr(stage1, 'STAGE1', {k: stage1.STAGE1[k] for k in ('dynamic', 'f16')})
    plain = dict(amp='off', layout='contiguous')        # nothing is timed for two steps
    monkeypatch.setattr(stage1, 'train_runs', lambda stage, todo, jobs: runs.train_runs(
        stage, {out: flags | plain for out,flags in todo.items()}, jobs))
    photographs(tmp_path/'photos', 40, classes=())
    res = stage1.stage1(tmp_path/'photos', steps=2, seeds=1, runs=tmp_path/'runs')
    rows = res['rows']
    assert [(r['kind'], r['maps'], r['ratio']) for r in rows] == [
        *(('dynamic', 'entropy', r) for r in (0, .25, .5, .75, 1)),
        *(('dynamic', m, r) for r in (.25, .5, .75) for m in ('shuffled', 'random')),
        *(('dynamic', 'no places', r) for r in (0, .25, .5, .75, 1)), ('f16', 'entropy', 1)]
    by = {(r['kind'], r['maps'], r['ratio']): r for r in rows}
    assert (by['dynamic', 'entropy', 0]['codes'] == by['f16', 'entropy', 1]['codes'] == 16 and
            by['dynamic', 'entropy', 1]['codes'] == 64)
    for r in (.25, .5, .75):
        assert by['dynamic', 'shuffled', r]['codes'] == by['dynamic', 'entropy', r]['codes']
    run = tmp_path/'runs'/'cpu-2'/'dynamic-0'
    # what is measured was not trained on
    train,held,_ = split_dataset(ImageFolder(tmp_path/'photos', 64), .1)
    assert res['held'] == len(held) and f'train part, {len(train)} ' in (run/'thresholds.json').read_text()
    assert json.loads((run/'model.json').read_text())['data'] == train.fingerprint

def test_maps(tmp_path, forks, monkeypatch):
    "The experiment on grain maps, in small: two steps a design, two classes, 4 × 4 cells"
    monkeypatch.setattr(lab_maps, 'map_scores', partial(lab_maps.map_scores, steps=10))
    draw = lab_maps.sample_maps
    monkeypatch.setattr(lab_maps, 'sample_maps', lambda net, y, steps=32, **how: draw(net, y, steps=min(steps, 4), **how))
    photographs(tmp_path/'photos', 40)
    res = lab_maps.maps(tmp_path/'photos', 64, 'tiny', steps=2, runs=tmp_path/'runs', n=16)
    train,held,_ = split_dataset(ImageFolder(tmp_path/'photos', 64), .1)
    assert (res['held'], res['training'], res['drawn'], res['classes']) == (len(held), 2*len(train), 16, ['a', 'b'])
    assert [(r['maps'], r.get('steps')) for r in res['rows']] == [
        ('held out', None), ('training', None), ('independent', None),
        *((d, s) for d in ('gaussian', 'masked') for s in (16, 32, 50, 32)), ('oneshot', 1), ('oneshot', 32)]
    assert all(b['exact_off'] == 0 for b in res['budgets']) and len(res['budgets']) == 9
    assert (all(c['kept'] for c in res['completed'] if 'kept' in c) and
            all(len(m) == 16 for m in res['shown']['gaussian-0']['maps'][0]))

def test_without_places_the_rest_is_the_same():
    import torch
    from d2it_nb.core import assert_close, seed_all
    from d2it_nb.dvae import dvae
    seed_all(0)
    net = dvae('tiny', (4, 8), ch=16)
    M = torch.tensor([[[0, 1], [1, 0]]])
    bare = stage1.without_positions(net, 16)
    z = torch.randn(1, 4, 4, 4)
    assert (bare.decode(z, M) - net.decode(z, M)).abs().max() > 1e-4
    with torch.no_grad():   # where all places are alike, nothing changes
        net.decoder.place.copy_(net.decoder.place.mean((2, 3), keepdim=True).expand_as(net.decoder.place))
        net.decoder.where.weight.zero_()
    assert_close(stage1.without_positions(net, 16).decode(z, M), net.decode(z, M), atol=1e-5)

def test_quality_is_that_of_the_averaged_network_on_held_out_pictures(tmp_path, monkeypatch):
    from d2it_nb import dvae_stage, run, train
    from d2it_nb.watch import read_log
    seen = []
    real = dvae_stage.assess
    monkeypatch.setattr(dvae_stage, 'assess',
                        lambda net, ds, *a, **kw: (seen.append((net, ds)), real(net, ds, *a, **kw))[1])
    made = []
    ema = run.EMA
    monkeypatch.setattr(run, 'EMA', lambda *a: made.append(ema(*a)) or made[-1])
    cfg = train.parse(['dvae', '--preset', 'tiny', '--out', str(tmp_path/'run'), '--steps', '8', '--w_gan', '0',
                        '--eval_every', '4', '--eval_n', '4'])[1]
    train.train('dvae', cfg)
    assert len(seen) == 2 and all(net is made[0].net and ds.ds.split == 'valid' for net,ds in seen)
    rows = read_log(tmp_path/'run'/'eval.jsonl')
    assert [(r['step'], r['ratio']) for r in rows] == [(s, r) for s in (4, 8) for r in (0, .25, .5, .75, 1)]
    assert all(b['psnr'] > a['psnr'] for a,b in zip(rows[:5], rows[5:]))

def test_the_papers_tables(tmp_path, monkeypatch, forks):
    "Two rungs of the ladder, trained, sampled and scored; the next figure finds the same networks"
    photographs(tmp_path/'photos', 80)
    def two(t):
        return {k: v for k,v in t.items() if k in ('DiT', '+ RefineNet & position')}
    t3 = tables.TABLES['table3']
    monkeypatch.setitem(tables.TABLES, 'table3', lambda s: two(t3(s)))
    res = tables.paper('table3', tmp_path/'photos', 'tiny', seeds=1, runs=tmp_path/'runs')
    a,b,c = res['rows']
    assert ([(r['row'], r['codes'], r['maps']) for r in res['rows']] ==
            [('DiT', 'fine', 'fine'), ('+ RefineNet & position', '0.5', 'drawn'), ('+ RefineNet & position', '0.5', 'real')] and
            res['n'] == 12 and b['pFD'] != c['pFD'] and 'full rank' in a['warnings'][0])
    assert a['parameters'] < b['parameters'] and a['pFD'] != b['pFD'] > 0 and list(a)[6] == 'p KID'
    assert [(f['codes'], f['maps']) for f in res['floors']] == [('fine', 'fine'), ('0.5', .5)]      # photographs through each autoencoder
    root = tmp_path/'runs'/'photos-tiny'
    made = {p: p.stat().st_mtime_ns for p in root.glob('*/content-*/model.safetensors')}
    assert len(made) == 2 and {p.parts[-3] for p in made} == {'fine', 'r=0.5'}
    curves = tables.paper('fig6', tmp_path/'photos', 'tiny', seeds=1, runs=tmp_path/'runs')
    rows = curves['rows']
    assert ([(r['row'], r['step']) for r in rows] ==
            [('DiT-tiny', 4), ('DiT-tiny', 8), ('D²iT-tiny', 4), ('D²iT-tiny', 8)] and
            [rows[i]['pFD'] for i in (1, 3)] == [a['pFD'], b['pFD']] != [rows[i]['pFD'] for i in (0, 2)] and
            curves['floors'] == res['floors'] and
            all(p.stat().st_mtime_ns == t for p,t in made.items()))
    cards = [json.loads(p.read_text())['settings'] for p in sorted(root.glob('*/content-*/scores-*/card.json'))]
    assert (sorted(c['maps'] for c in cards) == ['drawn']*3 + ['fine']*3 + ['real'] and
            {c['part'] for c in cards} == {'test'} and len(list(root.glob('reference-*'))) == 1)

@pytest.mark.stress
def test_two_seeds_and_one_autoencoder(tmp_path, forks):
    "Runs of one plain autoencoder don't wait for each other's latents; and one of any ratio serves all rows"
    photographs(tmp_path/'photos', 80)
    tables.paper('fig5', tmp_path/'photos', 'tiny', seeds=2, rows='r = 0.0', runs=tmp_path/'runs', measure=False)
    assert len(list((tmp_path/'runs').glob('*/coarse/content-*/model.safetensors'))) == 2
    res = tables.paper('fig5', tmp_path/'photos', 'tiny', seeds=1, rows='r = 0.0', runs=tmp_path/'runs', share_dvae=True)
    assert res['share_dvae'] and [(r['codes'], r['maps'], r['budget']) for r in res['rows']] == [('shared', 'coarse', 0)]

def test_the_networks_that_ship_beside_a_dit(tmp_path, forks, monkeypatch):
    root = tmp_path/'run'
    photographs(tmp_path/'photos', 40)
    for stage,more in dict(dvae=dict(held=.2), grain={}).items():
        runs.train_runs(stage, {root/stage: dict(preset='tiny', data=tmp_path/'photos') | more})
    res = content.shipped(tmp_path/'photos', root, 'tiny', n=8)
    rows = [(r['network'], r['step'], r['maps']) for r in res['rows']]
    assert rows == [('D²iT', 10, 'drawn'), *(('D²iT', 20, m) for m in ('drawn', 'real', 'fine')),
                    ('DiT', 10, 'fine'), ('DiT', 20, 'fine')]
    flop = {r['network']: r['PFLOP'] for r in res['rows'] if r['step'] == 20}
    half = res['rows'][0]
    assert half['PFLOP']*2 == flop['D²iT'] != flop['DiT'] and len({r['pFD'] for r in res['rows']}) == 6
    assert [r['ratio'] for r in res['through']] == [0, .5, 1] and res['through'][0]['codes'] < res['through'][2]['codes']
    assert ([(r['run'], r['steps'], len(r['loss'])) for r in res['runs']] ==
            [(s, 20, 20) for s in ('dvae', 'grain', 'content', 'dit')] and
            len({r['id'] for r in res['runs']}) == 4)
    near = res['neighbours']
    held = len(split_dataset(ImageFolder(tmp_path/'photos', 32), .2)[1])
    assert (len(near['distances']) == len(near['nearer']) == 16 and
            all(d > 0 for d in near['distances']) and
            all(s*held % 1 == 0 for s in near['nearer']))
    assert {p.name for p in root.glob('*.png')} == {'content.png', 'dit.png', 'neighbours.png'}
    runaways(tmp_path/'photos', root, monkeypatch)

def runaways(photos, root, monkeypatch):
    "One sampler, three ways: only what the pictures begin and are kept with differs"
    monkeypatch.setattr(content, 'WALKS', {('dpmpp', 3): ('free', 'kept', 'late')})
    monkeypatch.setattr(evaluation, 'RUNAWAY', 1e9)                           # of networks that know nothing, all would have
    free, kept, late = content.runaways(photos, root, n=8)['rows']
    assert [r['remedy'] for r in (free, kept, late)] == ['free', 'kept', 'late'] and 'moved' not in free
    assert len({r['p KID'] for r in (free, kept, late)}) == 3 and late['most_moved'] > late['moved'] > 0
    times = json.loads((root/'runaways-8'/'dpmpp-3-late'/'settings.json').read_text())['times']
    assert times[0] <= 900 and times[-1] == -1
