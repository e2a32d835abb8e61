"The short version of `tools/faults.py`, and a disk that is full."
import json, resource, subprocess
import pytest
import faults
from common import command, env, losses, train
from d2it_nb.checkpoint import newest

@pytest.fixture(scope='module')
def d(tmp_path_factory): return tmp_path_factory.mktemp('faults')

def test_kills(d): r = faults.kill(d, 3, per=40); assert r['exact'] and len(r['killed_at']) == 3, r
def test_sigterms(d):
    r = faults.term(d, 4); assert r['saved'] == 4 and r['steps_lost'] == 0, r
    assert {(x['workers'], x['to']) for x in r['rows']} == {(w, t) for w in (0, 2) for t in ('process', 'group')}
def test_damaged_checkpoints(d): r = faults.damage(d, 25); assert r['accepted'] == r['unnamed'] == 0, r
def test_hostile_files(tmp_path): r = faults.hostile(tmp_path); assert r['executed'] == 0 and r['times'] > 100, r

def test_the_bombs_are_live(tmp_path):
    "Read by pickle, they do go off"
    import pickle
    pickle.loads(pickle.dumps(faults.Bomb(tmp_path/'made'))); assert (tmp_path/'made').is_dir()

def test_a_full_disk_keeps_the_last_checkpoint(d, tmp_path):
    "No file may grow beyond 300 kB, so the log can be written and a checkpoint not"
    out = tmp_path/'c'; flags = [*faults.base(d), '--save_every', 5]
    train('content', out, *flags, '--steps', 5); small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000,)*2)
    r = subprocess.run(command('content', out, *flags, '--steps', 20), env=env(), capture_output=True, text=True, preexec_fn=small)
    assert r.returncode == 2 and 'the checkpoint of step 10 could not be written' in r.stderr and 'the last good one is step-000005' in r.stderr and 'Traceback' not in r.stderr, r.stderr
    assert [p.name for p in (out/'checkpoints').iterdir()] == ['step-000005'] and newest(out/'checkpoints')[1]['step'] == 5
    assert len(train('content', out, *flags, '--steps', 20)) == 20                # and with room again, it goes on

def test_no_room_is_said_before_the_first_step(d, tmp_path, monkeypatch):
    import shutil
    from d2it_nb import checkpoint, stages, train as engine
    monkeypatch.setattr(checkpoint.shutil, 'disk_usage', lambda p: shutil._ntuple_diskusage(10**9, 10**9 - 10**5, 10**5))
    cfg = stages.parse(['content', '--preset', 'tiny', '--out', str(tmp_path/'c'), *map(str, faults.base(d))])[1]
    with pytest.raises(OSError, match='needs 0.02 GB for checkpoints, 0.00 GB are free'): engine.train('content', cfg)
    assert not (tmp_path/'c'/'log.jsonl').exists()

def test_a_changed_flag_is_shown(d, tmp_path):
    out = tmp_path/'c'; flags = [*faults.base(d), '--steps', 5]; train('content', out, *flags)
    r = subprocess.run(command('content', out, *flags, '--wd', .1, '--lr', 2e-3), env=env(), capture_output=True, text=True)
    assert r.returncode == 2 and 'another configuration: wd was 0.0, now 0.1' in r.stderr
    train('content', out, *faults.base(d), '--steps', 6, '--lr', 2e-3, says="resuming at step 5 of 6 (lr was 0.001, now 0.002, steps was 5, now 6)")
    assert json.loads((out/'run.json').read_text())['config']['lr'] == 2e-3 and len(losses(out)) == 6
