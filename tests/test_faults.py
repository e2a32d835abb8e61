"The short version of `tools/faults.py`, and a disk that is full."
import itertools, json, os, signal, subprocess, time
from functools import partial
import pytest
import faults
from common import Fork, bounded, env, finished, losses, refused, train, unprivileged, wait_for
from faults import arguments
from d2it_nb.checkpoint import newest

@pytest.fixture(scope='module')
def d(tmp_path_factory):
    return tmp_path_factory.mktemp('faults')

@pytest.fixture(autouse=True)
def forks(monkeypatch):
    "Runs of one rank are forks here; those of several have their launcher, as in `tools/faults.py`"
    with_launcher = faults.begin
    def begin(*args, ranks=1):
        return with_launcher(*args, ranks=ranks) if ranks > 1 else Fork('d2it_nb.train', *arguments(*args), env=env(), leads=True)
    monkeypatch.setattr(faults, 'begin', begin)
    monkeypatch.setattr(faults, 'run', train)

def test_kills(d):
    r = faults.kill(d, 3, per=24)
    assert r['exact'] and len(r['killed_at']) == 3 and r['stretches'], r
def test_sigterms(d):
    "All kinds of one rank, and one of two under their launcher"
    kinds = {*((w, t, 1) for w in (0, 2) for t in ('process', 'group')), (2, 'process', 2)}
    r = faults.term(d, [0, 1, 2, 3, 5])
    assert r['saved'] == 5 and r['steps_lost'] == 0, r
    assert {(x['workers'], x['to'], x['ranks']) for x in r['rows']} == kinds
    r = faults.term(d, [1], sig=signal.SIGUSR1)
    assert r['saved'] == 1 and r['steps_lost'] == 0, r
def test_damaged_checkpoints(d):
    r = faults.damage(d, 25)
    assert r['accepted'] == r['unnamed'] == 0, r
def test_hostile_files(tmp_path):
    r = faults.hostile(tmp_path)
    assert r['executed'] == 0 and r['times'] > 100, r

def test_the_bombs_are_live(tmp_path):
    "Read by pickle, they do go off"
    import pickle
    pickle.loads(pickle.dumps(faults.Bomb(tmp_path/'made')))
    assert (tmp_path/'made').is_dir()

def test_a_full_disk_keeps_the_last_checkpoint(d, tmp_path):
    "No file may grow beyond 300 kB, so the log can be written and a checkpoint not"
    out = tmp_path/'c'
    flags = [*faults.base(d), '--save_every', 5]
    train('content', out, *flags, '--steps', 5)
    says = refused('content', out, *flags, '--steps', 20, before=partial(bounded, 300_000))
    assert ('the checkpoint of step 10 could not be written' in says and
            'the last good one is step-000005' in says), says
    assert ([p.name for p in (out/'checkpoints').iterdir()] == ['step-000005'] and
            newest(out/'checkpoints')[1]['step'] == 5)
    assert len(train('content', out, *flags, '--steps', 20)) == 20                # and with room again, it goes on

def test_a_full_disk_under_the_log(d, tmp_path):
    "Said, without a traceback; the run goes on when there is room, and is what it would have been"
    out = tmp_path/'c'
    flags = [*faults.base(d), '--save_every', 10]
    whole = train('content', tmp_path/'whole', *flags, '--steps', 30)
    train('content', out, *flags, '--steps', 10)
    r = subprocess.run(faults.command('content', out, *flags, '--steps', 30, '--save_every', 1000),
                       # what coverage writes would break off, too
                       env={k: v for k,v in env().items() if k != 'COVERAGE_PROCESS_START'},
                       capture_output=True, text=True,
                       preexec_fn=partial(bounded, (out/'log.jsonl').stat().st_size + 900))
    assert r.returncode == 2 and 'log.jsonl' in r.stderr and 'Traceback' not in r.stderr, r.stderr[-2000:]
    assert train('content', out, *flags, '--steps', 30) == whole

def test_a_full_disk_under_samples(tmp_path):
    "What is drawn is kept, and the card is the one of a run that was not disturbed"
    go = partial(finished, 'd2it_nb.evaluate', '--images', 12, '--steps', 2, '--chunk', 4, '--avatars', 16, '--device', 'cpu')
    ok = go(tmp_path/'whole')
    assert ok.returncode == 0, ok.stderr[-2000:]
    some = max(f.stat().st_size for f in tmp_path.glob('whole/chunks-*/*.npz'))
    r = go(tmp_path/'e', before=partial(bounded, some - 1))
    assert r.returncode == 2 and 'Traceback' not in r.stderr and str(tmp_path/'e') in r.stderr, r.stderr[-2000:]
    assert not list(tmp_path.glob('e/**/*.tmp'))
    r = go(tmp_path/'e')
    assert r.returncode == 0, r.stderr[-2000:]
    assert (json.loads((tmp_path/'e'/'card.json').read_text())['scores'] ==
            json.loads((tmp_path/'whole'/'card.json').read_text())['scores'])

def test_a_folder_that_is_read_only(d, tmp_path):
    "Said at the start; also root obeys here"
    shut = tmp_path/'shut'
    shut.mkdir(mode=0o555)
    for out in (shut, shut/'c'):
        says = refused('content', out, *faults.base(d), before=unprivileged)
        assert 'Permission denied' in says and str(shut) in says
    assert 'Permission denied' in refused('content', tmp_path/'c', '--dvae', d/'dvae', '--latents', shut/'latents',
                                          before=unprivileged)

def backwards():
    now = time.time()
    turn = itertools.count()
    time.time = lambda: now - 1000.*next(turn)

def test_a_clock_that_runs_backwards(d, tmp_path):
    "Nothing but the dates of files depends on it"
    out = tmp_path/'c'
    flags = [*faults.base(d), '--save_every', 5, '--steps', 12]
    assert (train('content', out, *flags, before=backwards) == train('content', tmp_path/'whole', *flags) and
            [l['seconds'] for l in faults.log_of(out)] == sorted(l['seconds'] for l in faults.log_of(out)))

def test_a_reading_process_that_is_killed(d, tmp_path):
    "The run ends, says so, and the next start goes on to the same end"
    out = tmp_path/'d'
    flags = ['--steps', 20, '--save_every', 5, '--w_gan', 0, '--workers', 2]
    p = Fork('d2it_nb.train', *arguments('dvae', out, *flags), env=env())
    wait_for(p, lambda: len(losses(out)) >= 8)
    os.kill(faults.descendants(p.pid)[-1], signal.SIGKILL)
    p.wait(120)
    err = p.said()[1]
    assert p.returncode == 1 and 'Traceback' not in err and 'a reading process died' in err, err[-2000:]
    assert train('dvae', out, *flags, says='resuming at step') == train('dvae', tmp_path/'whole', *flags)

def test_no_room_is_said_before_the_first_step(d, tmp_path, monkeypatch):
    import shutil
    from d2it_nb import checkpoint, train as engine
    monkeypatch.setattr(checkpoint.shutil, 'disk_usage',
                        lambda p: shutil._ntuple_diskusage(10**9, 10**9 - 10**5, 10**5))
    cfg = engine.parse(['content', '--preset', 'tiny', '--out', str(tmp_path/'c'), *map(str, faults.base(d))])[1]
    with pytest.raises(OSError, match='needs 0.02 GB for checkpoints, 0.00 GB are free'):
        engine.train('content', cfg)
    assert not (tmp_path/'c'/'log.jsonl').exists()

def test_a_changed_flag_is_shown(d, tmp_path):
    out = tmp_path/'c'
    flags = [*faults.base(d), '--steps', 5]
    train('content', out, *flags)
    assert ('another configuration: wd was 0.0, now 0.1' in
            refused('content', out, *flags, '--wd', .1, '--lr', 2e-3))
    train('content', out, *faults.base(d), '--steps', 6, '--lr', 2e-3,
          says="resuming at step 5 of 6 (lr was 0.001, now 0.002, steps was 5, now 6)")
    assert json.loads((out/'run.json').read_text())['config']['lr'] == 2e-3 and len(losses(out)) == 6
