"What a user may get wrong on the command line: a clear sentence, status 2, and nothing trained."
import dataclasses, json, re
from pathlib import Path
import pytest
from PIL import Image
import d2it_nb
from common import finished, photographs, refused, train
from faults import arguments, env
from d2it_nb.train import STAGES

@pytest.fixture
def small(tmp_path):
    (tmp_path/'photos').mkdir()
    for i in range(3):
        Image.new('RGB', (20, 16)).save(tmp_path/'photos'/f'{i}.png')
    return tmp_path/'photos'

def test_refusals(tmp_path, small):
    out = tmp_path/'run'
    assert 'is not a folder' in refused('dvae', out, '--data', tmp_path/'none')
    (tmp_path/'empty').mkdir()
    assert 'holds no images' in refused('dvae', out, '--data', tmp_path/'empty')
    assert 'shorter than the 32 px crop' in refused('dvae', out, '--data', small)
    few = photographs(tmp_path/'few', 3, 32, ())
    assert '3 training pictures do not fill a batch of 8' in refused('dvae', out, '--data', few)
    assert f'no stage 1 in {tmp_path/"dvae"}: train it there' in refused('content', out, '--data', few)
    assert 'the first argument is the stage: dvae, grain, content' in refused('vae', out)
    assert "no preset 'giant'" in refused('dvae', out, '--preset', 'giant')
    assert 'did you mean --steps?' in refused('dvae', out, '--step', 3)
    assert 'is not a multiple of the coarsest factor' in refused('dvae', out, '--size', 36)
    assert 'does not exist' in refused('content', out, '--dvae', tmp_path/'none')
    (tmp_path/'classes'/'a').mkdir(parents=True)
    (tmp_path/'classes'/'b').mkdir()
    Image.new('RGB', (40, 40)).save(tmp_path/'classes'/'a'/'0.png')
    assert "hold no usable images: ['b']" in refused('dvae', out, '--data', tmp_path/'classes')
    assert '--perceptual vgg needs --vgg FILES' in refused('dvae', out, '--perceptual', 'vgg')
    assert 'is not a file' in refused('dvae', out, '--perceptual', 'vgg', '--vgg', tmp_path/'none.pth')
    assert '--pixel is one of l1, l2' in refused('dvae', out, '--pixel', 'l3')
    assert 'too few to measure' in refused('dvae', out, '--eval_every', 5, '--eval_n', 1)
    assert not list(out.glob('checkpoints'))

def test_help_explains_every_flag():
    for stage in ('dvae', 'grain', 'content'):
        text = finished('d2it_nb.train', stage, '--help').stdout
        for f in dataclasses.fields(STAGES[stage].Config):
            assert re.search(rf'--{f.name} +[^( ]', text.split('\n', 1)[1]), f.name

def test_a_loss_that_is_not_finite_names_its_pictures(tmp_path):
    "Steps of 1e20 blow up at once; the message names the first bad step, though lines are logged every fifth"
    err = refused('dvae', tmp_path/'run', '--lr', 1e20, '--w_gan', 0, '--log_every', 5, '--save_every', 5)
    note = json.loads((tmp_path/'run'/'nan.json').read_text())
    assert (note['step'] in (2, 3) and len(note['items']) == 8 and note['items'][0] in err and
            f"not finite at step {note['step']}" in err)
    assert not (tmp_path/'run'/'model.json').exists() and not list((tmp_path/'run').glob('checkpoints/step-*'))

def test_what_was_taken_for_what_is_said(tmp_path):
    "Classes with their numbers, what was left out; and a class that validation does not see"
    photographs(tmp_path/'p', 24, 32)
    photographs(tmp_path/'p', 1, 32, ('café',))
    (tmp_path/'p'/'a'/'.ipynb_checkpoints').mkdir()
    (tmp_path/'p'/'a'/'list.csv').write_text('a')
    r = finished('d2it_nb.train', *arguments('dvae', tmp_path/'run', '--data', tmp_path/'p', '--steps', 2, '--held', .2),
                 env=env() | dict(PYTHONIOENCODING='ascii'))
    assert r.returncode == 0, r.stderr[-2000:]
    for part in ('25 pictures of 3 classes: a 12, b 12, caf\\xe9 1', '1 .csv', '.ipynb_checkpoints', 'none of caf\\xe9'):
        assert part in r.stdout, part

@pytest.mark.parametrize('module', ['train', 'evaluate', 'dist'])
def test_help_on_a_terminal_of_few_letters(module):
    "The others begin like `evaluate`"
    stage = ['dvae'] if module == 'train' else []
    r = finished(f'd2it_nb.{module}', *stage, '--help', env=env() | dict(PYTHONIOENCODING='ascii'))
    assert 'Traceback' not in r.stderr and r.stdout + r.stderr

def test_another_preset_in_the_same_folder(tmp_path):
    "It is the flags that are wrong, not the calibration that they made"
    train('dvae', tmp_path/'run', '--steps', 2)
    says = refused('dvae', tmp_path/'run', '--preset', 'demo', '--steps', 2)
    assert 'a run with another configuration' in says and 'size was 32, now 64' in says and 'calibration' not in says

def test_a_schedule_that_is_stretched_says_what_the_rate_does(tmp_path):
    flags = '--decay', 'cosine', '--save_every', 2
    train('grain', tmp_path/'grain', *flags, '--steps', 4)
    r = finished('d2it_nb.train', *arguments('grain', tmp_path/'grain', *flags, '--steps', 8))
    assert 'steps was 4, now 8; so the learning rate goes on at 0.0005, where it would have been 0' in r.stdout

def test_a_process_that_would_diverge(tmp_path):
    assert 'samples diverge. Use --predict v' in refused('content', tmp_path/'c', '--schedule', 'cosine', '--predict', 'eps')

def test_every_program_has_forgiving_streams():
    programs = [p for p in Path(d2it_nb.__file__).parent.rglob('*.py') if '\ndef main(' in p.read_text()]
    assert len(programs) == 11 and not [p.name for p in programs if 'forgiving_streams()' not in p.read_text()]

def test_a_folder_that_is_called_like_a_file(tmp_path):
    "What it is, the disk says, not its name"
    photographs(tmp_path/'p.json', 4, 32)
    r = finished('d2it_nb.thresholds', tmp_path/'p.json', '--size', 32, '--region', 8, '--workers', 0, '--out', tmp_path/'t.json')
    assert r.returncode == 0 and '4 pictures of 2 classes' in r.stdout, r.stderr[-2000:]
