"Starting training runs as a user does: as processes."
import subprocess, time
from faults import command, env, log_of
from d2it_nb.data import PhotoCrops, to_image

def train(*args, ranks=1, says=''):
    r = subprocess.run(command(*args, ranks=ranks), env=env(), capture_output=True, text=True)
    assert r.returncode == 0, r.stderr[-9000:]
    assert says in r.stdout, r.stdout[-3000:]
    return losses(args[1])

def losses(out): return [l['loss'] for l in log_of(out)]

def refused(*args, **kw):
    "What a run says that ends by a sentence and status 2"
    r = subprocess.run(command(*args), env=env(), capture_output=True, text=True, **kw)
    assert r.returncode == 2 and 'Traceback' not in r.stderr, r.stderr[-2000:]
    return r.stderr

def wait_for(p, done, seconds=120):
    "Until `done()`, which the process has to reach while it runs"
    end = time.time() + seconds
    while not done():
        assert p.poll() is None, 'it ended too early'
        assert time.time() < end, 'it did not get so far'
        time.sleep(.005)

def photographs(folder, n, size=64, classes=('a', 'b')):
    "Crops as files of these classes in turn; without classes, side by side"
    ds = PhotoCrops(size, n)
    for i in range(n):
        d = folder/classes[i % len(classes)] if classes else folder
        d.mkdir(parents=True, exist_ok=True); to_image(ds.image(i)).save(d/f'{i:02d}.png')
    return folder
