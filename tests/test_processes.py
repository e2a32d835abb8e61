"Other processes through training and sampling: cosine, v, learned variance, flow."
import json, shutil
import pytest, torch
from common import refused, train
from d2it_nb import diffusion
from d2it_nb.grain import is_block_constant
from d2it_nb.pipeline import D2iTPipeline

@pytest.fixture(scope='module')
def stage1(tmp_path_factory):
    d = tmp_path_factory.mktemp('stages')
    train('dvae', d/'dvae', '--steps', 4, '--save_every', 4)
    return d

@pytest.mark.parametrize('flags,process,sampler', [
    (['--learn_sigma', 'true'], dict(schedule='linear', predict='eps'), 'ddpm'),
    (['--schedule', 'cosine', '--learn_sigma', 'true'], dict(schedule='cosine', predict='v'), 'ddpm'),
    (['--schedule', 'cosine', '--predict', 'x0', '--min_snr', 5], dict(schedule='cosine', predict='x0'), 'ddim'),
    (['--schedule', 'flow', '--min_snr', 5], dict(schedule='flow', predict='u'), 'heun')])
def test_process_is_trained_remembered_and_sampled(stage1, flags, process, sampler):
    out = stage1/'content'
    shutil.rmtree(out, ignore_errors=True)
    ls = train('content', out, '--steps', 4, '--save_every', 4, *flags)
    assert len(ls) == 4 and all(l == l for l in ls)
    assert json.loads((out/'model.json').read_text())['process'] == process
    pipe = D2iTPipeline.load(stage1)
    M = torch.arange(16).view(1, 4, 4) % 2
    s = pipe.generate('micah', M, steps=4, sampler=sampler, cfg=2.)
    assert s.x.isfinite().all() and is_block_constant(s.z, M)
    same = diffusion.process(**process)
    assert pipe.diff.predict == same.predict and all(pipe.diff.coef(t) == same.coef(t) for t in (100, 500))

def test_a_flow_has_no_learned_variance(stage1):
    assert ('--learn_sigma belongs to a diffusion' in
            refused('content', stage1/'never', '--schedule', 'flow', '--learn_sigma', 'true'))

def test_bad_processes_are_refused_before_anything_is_made(stage1):
    for flags,what in [(['--schedule', 'sigmoid'], 'there are linear, cosine, flow'),
                       (['--schedule', 'flow', '--predict', 'v'], 'can predict u, x0'),
                       (['--min_snr', '-5'], '--min_snr -5.0 is out of range')]:
        assert what in refused('content', stage1/'never', *flags) and not (stage1/'never').exists()
