"A run that is killed with -9 and started again is, to the last bit, the run that was never killed."
import pytest
from common import Fork, env, losses, refused, train, wait_for
from faults import arguments, begin, kill_all, log_of
from d2it_nb.core import sha256

def kill_when(out, step, p):
    "Wait until the log has reached `step`, kill the process and all that it started"
    wait_for(p, lambda: len(log_of(out)) >= step)
    kill_all(p.pid)
    p.wait()

@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    d = tmp_path_factory.mktemp('whole')
    for stage in ('dvae', 'content'):
        train(stage, d/stage, '--steps', 40, '--save_every', 5)
    return d

@pytest.mark.parametrize('stage,ranks', [('dvae', 1)])
def test_killed_and_resumed(whole, tmp_path, stage, ranks):
    out = tmp_path/stage
    flags = (['--steps', 40, '--save_every', 5] +
             (['--dvae', whole/'dvae', '--latents', whole/'latents'] if stage == 'content' else []))
    for step in (7, 18):
        kill_when(out, step, Fork('d2it_nb.train', *arguments(stage, out, *flags), env=env()))
    assert not (out/'model.json').exists()
    assert train(stage, out, *flags, ranks=ranks, says='resuming at step ') == losses(whole/stage)
    assert sha256(out/'model.safetensors') == sha256(whole/stage/'model.safetensors')

def test_killed_with_two_ranks(whole, tmp_path):
    flags = ['--steps', 40, '--save_every', 5, '--dvae', whole/'dvae', '--latents', whole/'latents']
    ref = train('content', tmp_path/'ref', *flags, ranks=2)
    kill_when(tmp_path/'cut', 12, begin('content', tmp_path/'cut', *flags, ranks=2))       # with its launcher
    assert train('content', tmp_path/'cut', *flags, ranks=2, says='resuming at step ') == ref
    assert sha256(tmp_path/'cut'/'model.safetensors') == sha256(tmp_path/'ref'/'model.safetensors')

def test_a_second_run_in_the_same_folder_refuses(whole, tmp_path):
    out = tmp_path/'c'
    flags = ['--steps', 3000, '--dvae', whole/'dvae', '--latents', whole/'latents']
    p = Fork('d2it_nb.train', *arguments('content', out, *flags), env=env())
    try:
        wait_for(p, lambda: log_of(out))
        assert 'in use by another run' in refused('content', out, *flags)
    finally:
        p.kill()
        p.wait()
