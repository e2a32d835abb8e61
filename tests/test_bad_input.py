"What a user may get wrong on the command line: a clear sentence, status 2, and nothing trained."
import dataclasses, json, re
import pytest
from PIL import Image
from common import finished, photographs, refused
from d2it_nb.stages import STAGES

@pytest.fixture
def small(tmp_path):
    (tmp_path/'photos').mkdir()
    for i in range(3): Image.new('RGB', (20, 16)).save(tmp_path/'photos'/f'{i}.png')
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
        for f in dataclasses.fields(STAGES[stage]):
            assert re.search(rf'--{f.name} +[^( ]', text.split('\n', 1)[1]), f.name

def test_a_loss_that_is_not_finite_names_its_pictures(tmp_path):
    "Steps of 1e20 blow up at once; the message names the first bad step, though lines are logged every fifth"
    err = refused('dvae', tmp_path/'run', '--lr', 1e20, '--w_gan', 0, '--log_every', 5, '--save_every', 5)
    note = json.loads((tmp_path/'run'/'nan.json').read_text())
    assert (note['step'] in (2, 3) and len(note['items']) == 8 and note['items'][0] in err and
            f"not finite at step {note['step']}" in err)
    assert not (tmp_path/'run'/'model.json').exists() and not list((tmp_path/'run').glob('checkpoints/step-*'))
