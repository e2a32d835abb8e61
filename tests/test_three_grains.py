"Three grains through all three stages, from the command line to a picture."
import torch
from common import train
from d2it_nb.grain import is_block_constant
from d2it_nb.pipeline import D2iTPipeline

def test_three_grains_train_and_sample(tmp_path):
    for stage in ('dvae', 'grain', 'content'):
        extra = ['--size', 64, '--factors', '4,8,16'] if stage == 'dvae' else []
        assert len(train(stage, tmp_path/stage, '--steps', 4, '--save_every', 4, *extra)) == 4
    pipe = D2iTPipeline.load(tmp_path)
    assert (pipe.k, pipe.grid, len(pipe.content.refiners)) == (3, (4, 4), 2)
    M = torch.arange(16).view(1, 4, 4) % 3
    s = pipe.generate('micah', M, steps=3)
    assert s.x.shape == (1, 3, 64, 64) and s.x.isfinite().all() and is_block_constant(s.z, M, 3)
    e = pipe.edit(s, 2 - M, steps=3)
    kept = (M == 2 - M).repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None].expand_as(s.z)
    assert torch.equal(e.z[kept], s.z[kept]) and not torch.equal(e.z, s.z)
