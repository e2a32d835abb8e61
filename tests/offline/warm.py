"What every fork (see `common`) would do once more: read the bundled pictures, and count what a step of each small network costs"
import contextlib, io, tempfile, threading, traceback, warnings
from pathlib import Path
import torch
from tqdm.auto import tqdm
from tqdm.std import tqdm as tqdm_std
from d2it_nb.core import save_net
from d2it_nb.data import PhotoCrops, bundled_avatars, small_photos
from d2it_nb.dist import SOLO
from d2it_nb.plan import plan
from d2it_nb.train import STAGES, parse

def tiny(stage, folder, micro=0):
    return parse([stage, '--preset', 'tiny', '--device', 'cpu', '--out', str(folder/stage), '--micro', str(micro)])[1]

def count(folder):
    "As `train` would, for one rank and for two"
    for stage in STAGES:
        built = STAGES[stage].open(tiny(stage, folder))
        if stage == 'dvae':
            net = built.net.eval()
            save_net(folder/'dvae'/'model', net, id='untrained', trained={}, **built.meta)
        for micro in (8, 4):
            plan(built, tiny(stage, folder, micro), SOLO, False)

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
