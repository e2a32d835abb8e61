"A run that is killed with -9 and started again is, to the last bit, the run that was never killed."
import pytest
from common import Fork, env, killed, losses, refused, started, train, wait_for
from faults import arguments, log_of
from d2it_nb.core import sha256

def kill_when(step, stage, out, *flags, ranks=1):
    "Start it, wait until the log has reached `step`, kill its processes and all that they started"
    forks = started('d2it_nb.train', *arguments(stage, out, *flags), ranks=ranks)
    wait_for(forks[0], lambda: len(log_of(out)) >= step)
    killed(forks)

DVAE = '--steps', 24, '--save_every', 5

@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    d = tmp_path_factory.mktemp('whole')
    train('dvae', d/'dvae', *DVAE)
    return d

def test_killed_and_resumed(whole, tmp_path):
    "Twice; before and after the discriminator began"
    out = tmp_path/'dvae'
    for step in (2, 12):
        kill_when(step, 'dvae', out, *DVAE)
    assert not (out/'model.json').exists()
    assert train('dvae', out, *DVAE, says='resuming at step ') == losses(whole/'dvae')
    assert sha256(out/'model.safetensors') == sha256(whole/'dvae'/'model.safetensors')

def test_killed_with_two_ranks(whole, tmp_path):
    "With a launcher: `test_world`"
    flags = ['--steps', 40, '--save_every', 5, '--dvae', whole/'dvae', '--latents', whole/'latents']
    ref = train('content', tmp_path/'ref', *flags, ranks=2)
    kill_when(12, 'content', tmp_path/'cut', *flags, ranks=2)
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
