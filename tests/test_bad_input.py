"What a user may get wrong on the command line: a clear sentence, status 2, and nothing trained."
import subprocess
import pytest
from PIL import Image
from common import command, env

def refused(*args):
    r = subprocess.run(command(*args), env=env(), capture_output=True, text=True)
    assert r.returncode == 2, r.stderr[-2000:]
    assert 'Traceback' not in r.stderr
    return r.stderr

@pytest.fixture
def small(tmp_path):
    (tmp_path/'photos').mkdir()
    for i in range(3): Image.new('RGB', (20, 16)).save(tmp_path/'photos'/f'{i}.png')
    return tmp_path/'photos'

def test_refusals(tmp_path, small):
    out = tmp_path/'run'
    assert 'is not a folder' in refused('dvae', out, '--data', tmp_path/'none')
    (tmp_path/'empty').mkdir(); assert 'holds no images' in refused('dvae', out, '--data', tmp_path/'empty')
    assert 'shorter than the 32 px crop' in refused('dvae', out, '--data', small)
    assert 'the first argument is the stage: dvae, grain, content' in refused('vae', out)
    assert "no preset 'giant'" in refused('dvae', out, '--preset', 'giant')
    assert 'did you mean --steps?' in refused('dvae', out, '--step', 3)
    assert 'is not a multiple of the coarsest factor' in refused('dvae', out, '--size', 36)
    assert 'does not exist' in refused('content', out, '--dvae', tmp_path/'none')
    assert not list(out.glob('checkpoints'))
