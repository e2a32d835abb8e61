"""Starting what a user starts: `python -m d2it_nb.…`.

Where the process itself is what is tested (the launcher, its signals, a fresh interpreter), it is a fresh process: `faults.command`.
Everywhere else it is a fork of a server that has all imports behind it (`Fork`), which saves five seconds of a core each time."""
import atexit, contextlib, ctypes, multiprocessing, os, resource, runpy, socket, subprocess, sys, tempfile, time, warnings
from pathlib import Path
import torch
from faults import arguments, env, kill_all, log_of
from d2it_nb.data import PhotoCrops, to_image

server = multiprocessing.get_context('forkserver')
server.set_forkserver_preload(['torch._dynamo', 'torch.onnx', 'd2it_nb.train', 'd2it_nb.evaluate', 'd2it_nb.demo', 'd2it_nb.experiments',
                               'd2it_nb.editor', 'nbdev.test', 'fastcore.test', 'warm'])

def as_main(what, args, env, files, before, leads):
    "In the fork: what `python -m what args` does, or a call of `what`"
    if leads:
        os.setsid()
    for fd, path in enumerate(files, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), fd)
    # a fresh interpreter's, not the server's
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    os.environ.clear()
    os.environ.update(env)
    if 'OMP_NUM_THREADS' in env:                      # which PyTorch reads once, when it is loaded
        torch.set_num_threads(int(env['OMP_NUM_THREADS']))
    if before:
        before()
    if encoding := env.get('PYTHONIOENCODING'):       # which a fresh interpreter would have heeded
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding=encoding, errors='strict')
    warnings.simplefilter(env.get('PYTHONWARNINGS', 'default'))
    sys.path[:0] = filter(None, env.get('PYTHONPATH', '').split(os.pathsep))
    if callable(what):
        return what(*args)
    sys.argv[1:] = args
    runpy.run_module(what, run_name='__main__', alter_sys=True)

class Fork:
    "Like `subprocess.Popen`, for a module (its name) or a function; what it says lies in files"
    def __init__(self, what, *args, env=None, before=None, leads=False):
        self.files = [tempfile.mkstemp(suffix=f'.{stream}') for stream in ('out', 'err')]
        for fd, _ in self.files:
            os.close(fd)
        paths = [path for _, path in self.files]
        how = [*map(str, args)], env or dict(os.environ), paths, before, leads
        self.process = server.Process(target=as_main, args=(what, *how))
        self.process.start()
        self.pid = self.process.pid
        atexit.register(self.forget)
    def forget(self):
        "Nothing outlives the tests: neither the process nor what it said"
        self.process.kill()
        for _, path in self.files:
            Path(path).unlink(missing_ok=True)
    @property
    def returncode(self):
        return self.process.exitcode
    def poll(self):
        return self.process.exitcode
    def wait(self, timeout=None):
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(self.pid, timeout)
        return self.process.exitcode
    def send_signal(self, sig):
        if self.poll() is None:
            os.kill(self.pid, sig)
    def terminate(self):
        self.process.terminate()
    def kill(self):
        self.process.kill()
    def said(self):
        "stdout, stderr"
        return tuple(Path(path).read_text() for _, path in self.files)

def started(module, *args, ranks=1, **how):
    "A fork per rank, without a launcher"
    how['env'] = how.get('env') or env()
    if ranks == 1:
        return [Fork(module, *args, **how)]
    world = dict(WORLD_SIZE=str(ranks), LOCAL_WORLD_SIZE=str(ranks), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()))
    return [Fork(module, *args, **how | dict(env=how['env'] | world | dict(RANK=str(r), LOCAL_RANK=str(r))))
            for r in range(ranks)]

def finished(module, *args, ranks=1, **how):
    "Run to the end: the status (1 if one of several ranks fails), and what was said"
    forks = started(module, *args, ranks=ranks, **how)
    while any(f.poll() is None for f in forks) and not any(f.poll() for f in forks):
        time.sleep(.005)
    for f in forks:                                   # one failed: the others end by themselves, or are ended
        with contextlib.suppress(subprocess.TimeoutExpired):
            f.wait(10)
        f.kill()
        f.wait()
    codes = [f.returncode for f in forks]
    out, err = map(''.join, zip(*(f.said() for f in forks)))
    return subprocess.CompletedProcess(args, codes[0] if ranks == 1 else int(any(codes)), out, err)

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

def train(*args, says='', **how):
    "A stage, its folder, its flags → its losses"
    r = finished('d2it_nb.train', *arguments(*args), **how)
    assert r.returncode == 0, r.stderr[-9000:]
    assert says in r.stdout, r.stdout[-3000:]
    return losses(args[1])

def losses(out):
    return [line['loss'] for line in log_of(out)]

def refused(*args, **how):
    "What a run says that ends by a sentence and status 2"
    r = finished('d2it_nb.train', *arguments(*args), **how)
    assert r.returncode == 2 and 'Traceback' not in r.stderr, r.stderr[-2000:]
    return r.stderr

def wait_for(p, done, seconds=120, every=.005):
    "Until `done()`, which the process has to reach while it runs"
    end = time.time() + seconds
    while not done():
        assert p.poll() is None, 'it ended too early'
        assert time.time() < end, 'it did not get so far'
        time.sleep(every)

def killed(forks):
    "With all that they started"
    for f in forks:
        kill_all(f.pid)
    for f in forks:
        f.wait()

def photographs(folder, n, size=64, classes=('a', 'b')):
    "Crops as files of these classes in turn; without classes, side by side"
    ds = PhotoCrops(size, n)
    for i in range(n):
        d = folder/classes[i % len(classes)] if classes else folder
        d.mkdir(parents=True, exist_ok=True)
        to_image(ds.image(i)).save(d/f'{i:02d}.png')
    return folder

def bounded(n):
    "No file of this process grows beyond n bytes"
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, n))

def unprivileged():
    "A read-only folder is read-only for root, too: without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, by capset(2)"
    libc = ctypes.CDLL(None)
    head = (ctypes.c_uint32*2)(0x20080522, 0)
    sets = (ctypes.c_uint32*6)()
    libc.capget(head, sets)
    sets[0] &= ~0b110
    assert libc.capset(head, sets) == 0
