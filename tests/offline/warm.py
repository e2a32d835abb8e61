"What every fork (see `common`) would do once more: read the bundled pictures, and count what a step of each small network costs"
import contextlib, gc, io, tempfile, threading, traceback, warnings
from pathlib import Path
from unittest import mock
import torch
from tqdm.auto import tqdm
from tqdm.std import tqdm as tqdm_std
from d2it_nb import plan
from d2it_nb.core import save_net
from d2it_nb.data import PhotoCrops, bundled_avatars, small_photos
from d2it_nb.train import STAGES, parse

MOST = 8                                              # samples of a micro-batch
VARIANTS = dict(dvae=[(), ('--w_gan', '0')], grain=[()], content=[()])

def count(folder):
    "As `train` would, for a whole batch; of a part of it, as much less"
    for stage,variants in VARIANTS.items():
        for flags in variants:
            cfg = parse([stage, '--preset', 'tiny', '--device', 'cpu', '--out', str(folder/stage), *flags])[1]
            built = STAGES[stage].open(cfg)
            whole = plan.known_cost(built, cfg, MOST, False, 'cpu')
            def part(stage, n, amp):
                return whole | dict(bytes=whole['bytes']*n//MOST)
            with mock.patch.object(plan, 'cost', part):
                for n in (1, 2, 4):
                    plan.known_cost(built, cfg, n, False, 'cpu')
        if stage == 'dvae':
            net = built.net.eval()
            save_net(folder/'dvae'/'model', net, id='untrained', trained={}, **built.meta)

def warm():
    small_photos(32, PhotoCrops.HELD)
    bundled_avatars()
    if torch.cuda.is_available():                     # a process that has called `backward` can't be forked any more
        return
    tqdm.monitor_interval = 0                         # nor should one with a thread be
    for kind in (tqdm, tqdm_std):                     # else all forks share a lock, and one that is killed may hold it for ever
        kind.set_lock(threading.RLock())
    torch.set_num_threads(1)
    quiet = io.StringIO()
    with tempfile.TemporaryDirectory() as d, warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        warnings.simplefilter('ignore')
        count(Path(d))

try:
    warm()
except Exception:
    traceback.print_exc()               # the tests themselves will say what is wrong
# what lies here stays; else the first collection in each fork looks at all of it, and copies its memory
gc.collect()
gc.freeze()
