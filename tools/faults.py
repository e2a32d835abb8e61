"""What a training run survives: kills, signals, damaged and hostile checkpoints, each as often as you like.

    python tools/faults.py kill --n 70 --ranks 1       kill -9 at random moments; the resumed run must be the uninterrupted one, to the last bit
    python tools/faults.py term --n 24                 SIGTERM, to the process and to its group, with 0 and 2 workers, at 1 and 2 ranks
    python tools/faults.py damage --n 500              truncated files and flipped bits, n of each: none may be accepted
    python tools/faults.py hostile                     pickles in every place a file is read from: none may run
    python tools/faults.py all                         all of these, with kills at 1 and 2 ranks, into data/results/faults.json
"""
import json, os, pickle, random, shutil, signal, subprocess, sys, tempfile, time, warnings
from pathlib import Path
import torch
from fastcore.script import call_parse
from tqdm.auto import tqdm
from d2it_nb.checkpoint import load_checkpoint, newest, read_part, save_checkpoint, steps_in
from d2it_nb.core import load_net, save_result, sha256

def env():
    return dict(os.environ, OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')

def arguments(stage, out, *flags):
    return [stage, '--preset', 'tiny', '--device', 'cpu', '--out', str(out), *map(str, flags)]

def command(*args, ranks=1):
    "A stage, its folder, its flags → a command line, with a launcher if there are several ranks"
    launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(ranks)] if ranks > 1 else []
    return [sys.executable, *launcher, '-m', 'd2it_nb.train', *arguments(*args)]

def begin(*args, ranks=1):
    "Start it, in a session of its own (so that a signal to its group reaches nothing else)"
    return subprocess.Popen(command(*args, ranks=ranks), env=env(), stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, start_new_session=True)

def run(*args, ranks=1):
    r = subprocess.run(command(*args, ranks=ranks), env=env(), capture_output=True, text=True)
    if r.returncode:
        raise SystemExit(f'{" ".join(map(str, args))} ended with {r.returncode}:\n{r.stderr[-3000:]}')

def descendants(pid):
    "A process and all below it, from /proc (torchrun puts its workers into sessions of their own)"
    parent = {}
    for p in Path('/proc').glob('[0-9]*'):
        try:
            parent[int(p.name)] = int((p/'stat').read_text().rsplit(')', 1)[1].split()[1])
        except (OSError, IndexError):
            pass
    out = [pid]
    for q in out:
        out += [c for c,up in parent.items() if up == q]
    return out

def kill_all(pid):
    for p in descendants(pid):
        try:
            os.kill(p, signal.SIGKILL)
        except ProcessLookupError:
            pass

def log_of(out):
    return ([json.loads(l) for l in (Path(out)/'log.jsonl').read_text().splitlines()]
            if (Path(out)/'log.jsonl').is_file() else [])

def base(d, workers=0):
    "A first stage and its latents; returns the flags of a second stage that uses them"
    if not (d/'dvae'/'model.json').exists():
        run('dvae', d/'dvae', '--steps', 2, '--save_every', 2)
    return ['--dvae', d/'dvae', '--latents', d/'latents', '--ema', '0.9999,0.9', '--workers', workers]

def same_run(a, b):
    "Losses of every step, and all tensors of the last checkpoints: equal to the last bit?"
    (ta,ma),(tb,mb) = (load_checkpoint(p/'checkpoints') for p in (a, b))
    tensors = (ta.keys() == tb.keys() and
               all(ta[p].keys() == tb[p].keys() and all(torch.equal(v, tb[p][k]) for k,v in ta[p].items())
                   for p in ta))
    curve = ([[l[k] for k in l if k not in ('seconds', 'images_s', 'mfu', 'GB')] for l in log_of(a)] ==
             [[l[k] for k in l if k not in ('seconds', 'images_s', 'mfu', 'GB')] for l in log_of(b)])
    return (tensors and curve and ma['step'] == mb['step'] and
            sha256(a/'model.safetensors') == sha256(b/'model.safetensors'))

def kill(d, n, ranks=1, seed=0, per=60):
    "n kills at random moments of a run of n·per steps: while it imports, starts, steps, saves"
    rng = random.Random(f'{seed} {ranks}')
    flags = [*base(d), '--steps', n*per, '--save_every', 5]
    ref,cut = d/f'ref-{ranks}-{n}',d/f'cut-{ranks}-{n}'
    shutil.rmtree(cut, ignore_errors=True)
    if not (ref/'model.json').exists():
        run('content', ref, *flags, ranks=ranks)
    # steps done at each kill; seconds from a start to its first new step
    at = []
    took = 4.
    for _ in tqdm(range(n), desc=f'kill -9, {ranks} rank(s)'):
        # it got to its end before its last kill: once more from the beginning
        if (cut/'model.json').exists():
            shutil.rmtree(cut)
        p = begin('content', cut, *flags, ranks=ranks)
        t,steps = time.time(),len(log_of(cut))
        def going():
            return p.poll() is None
        if rng.random() < .2:   # a fifth before the first step, the others up to some sixty steps later
            end = t + rng.uniform(0, took)
            while time.time() < end and going():
                time.sleep(.01)
        else:
            while len(log_of(cut)) == steps and going() and time.time() - t < 120:
                time.sleep(.01)
            took,end = time.time() - t,time.time() + rng.uniform(0, 1.2)
            while time.time() < end and going():
                time.sleep(.01)
        kill_all(p.pid)
        p.wait()
        at.append(len(log_of(cut)))
    run('content', cut, *flags, ranks=ranks)
    return dict(fault='kill -9', ranks=ranks, times=n, steps=n*per, killed_at=at, stretches=len(set(at) - {0}),
                exact=same_run(ref, cut))

def term(d, n, seed=0, sig=signal.SIGTERM): # n: how often, or the numbers of some of the eight kinds
    ("n SIGTERMs (or other signals that ask to stop); each must be saved at the step that was logged last, "
     "with 143 as the process's own code (torchrun's is 1)")
    rng,rows = random.Random(seed),[]
    kinds = range(n) if isinstance(n, int) else n
    for i in tqdm(kinds, desc=sig.name):
        workers = (0, 2)[i % 2]
        group = bool(i//2 % 2)
        ranks = (1, 2)[i//4 % 2]
        out = d/f'term-{i}'
        shutil.rmtree(out, ignore_errors=True)
        p = begin('content', out, *base(d, workers), '--steps', 100000, '--save_every', 100000, ranks=ranks)
        while len(log_of(out)) < 2:
            if p.poll() is not None:
                raise SystemExit(f'the run in {out} ended with {p.returncode} before it could be stopped')
            time.sleep(.02)
        time.sleep(rng.uniform(0, .5))
        before,below = len(log_of(out)),descendants(p.pid)[1:]
        os.killpg(p.pid, sig) if group else p.send_signal(sig)
        code = p.wait(60)
        done = log_of(out)[-1]['step']
        found = newest(out/'checkpoints')
        saved = bool(found) and found[1]['step'] == done and code == (143 if ranks == 1 else 1)
        rows.append(dict(workers=workers, to='group' if group else 'process', ranks=ranks, code=code,
                         saved=saved, lost=max(0, before - (found[1]['step'] if found else 0))))
        for q in below:
            try:
                os.kill(q, signal.SIGKILL)
            except ProcessLookupError:
                pass
    return dict(fault=sig.name, times=len(kinds), saved=sum(r['saved'] for r in rows),
                steps_lost=max(r['lost'] for r in rows), rows=rows)

def damage(d, n, seed=0):
    ("n truncations and n flipped bits, of any file of the newest checkpoint: "
     "the one before must be taken, and the file be named")
    rng = random.Random(seed)
    run_ = d/'whole'
    if not (run_/'model.json').exists():
        run('content', run_, *base(d), '--steps', 6, '--save_every', 3)
    (last,path),(before,_) = steps_in(run_/'checkpoints')[:2]
    accepted = unnamed = 0
    for i in tqdm(range(2*n), desc='truncated, flipped'):
        files = sorted(path.iterdir())
        f = rng.choice(files)
        raw = f.read_bytes()
        if i < n:
            bad = raw[:rng.randrange(len(raw))]
        else:
            j = rng.randrange(8*len(raw))
            bad = bytearray(raw)
            bad[j//8] ^= 1 << j % 8
        f.write_bytes(bad)
        try:
            with warnings.catch_warnings(record=True, action='always') as w:
                found = newest(run_/'checkpoints')
        finally:
            f.write_bytes(raw)
        accepted += found[1]['step'] != before
        unnamed += not any(path.name in str(x.message) for x in w)
    assert newest(run_/'checkpoints')[1]['step'] == last
    return dict(fault='damaged files', truncated=n, flipped=n, accepted=accepted, unnamed=unnamed)

class Bomb:
    def __init__(self, path):
        self.path = str(path)
    def __reduce__(self):
        return os.mkdir, (self.path,)

def hostile(d):
    ("A pickle that makes a folder when it is read, in every place a file is read from, "
     "also under a manifest that vouches for it")
    from d2it_nb.content_transformer import D2iT
    from d2it_nb.extractors import read_weights
    from d2it_nb.latents import Latents
    from d2it_nb.calibration import load_calibration
    sign = d/'executed'
    d.mkdir(parents=True, exist_ok=True)
    good = dict(net=dict(w=torch.ones(3)))
    tries = 0
    shutil.rmtree(sign, ignore_errors=True)
    bombs = [pickle.dumps(Bomb(sign), p) for p in range(6)]
    z = d/'z.pt'
    torch.save(dict(w=torch.ones(1), x=Bomb(sign)), z)
    bombs.append(z.read_bytes())
    torch.save(dict(w=torch.ones(1), x=Bomb(sign)), z, _use_new_zipfile_serialization=False)
    bombs.append(z.read_bytes())
    def attempt(f, *a):
        nonlocal tries
        tries += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                f(*a)
        except Exception:
            pass
    for i,bomb in enumerate(bombs):
        for name in ('net.safetensors', 'meta.json', 'manifest.json', '.metadata', 'net-0of2.safetensors', 'rng.pt'):
            c = d/f'h{i}'
            shutil.rmtree(c, ignore_errors=True)
            p = save_checkpoint(c, 1, good, {})
            (p/name).write_bytes(bomb)
            if name != 'manifest.json':
                (p/'manifest.json').write_text(json.dumps({f.name: sha256(f)
                                                           for f in p.iterdir() if f.name != 'manifest.json'}))
            attempt(load_checkpoint, c)
            if name.startswith('net'):
                attempt(read_part, p, 'net')
        m = d/'model'
        m.with_suffix('.safetensors').write_bytes(bomb)
        m.with_suffix('.json').write_text(json.dumps(dict(kind='D2iT', config={},
                                                          sha256=sha256(m.with_suffix('.safetensors')))))
        attempt(load_net, m, D2iT)
        m.with_suffix('.json').write_bytes(bomb)
        attempt(load_net, m, D2iT)
        for name in ('w.pth', 'w.safetensors'):
            (d/name).write_bytes(bomb)
            attempt(read_weights, d/name)
        (d/'thresholds.json').write_bytes(bomb)
        attempt(load_calibration, d/'thresholds.json')
        l = d/'lat'
        l.mkdir(exist_ok=True)
        (l/'latents.json').write_bytes(bomb)
        (l/'latents.bin').write_bytes(bomb)
        attempt(Latents, l)
    return dict(fault='hostile files', times=tries, executed=int(sign.exists()))

@call_parse
def main(what:str, # kill, term, damage, hostile or all
         n:int=0, # how often; 0: 70 kills at one rank and 30 at two, 104 SIGTERMs, 500 truncations and 500 flips
         ranks:int=1, # of the runs that are killed
         seed:int=0, # of the random moments
         folder:str='', # for the runs; empty: a temporary one
        ):
    "Try it, and say how it went; exit status 1 if anything was lost"
    d = Path(folder or tempfile.mkdtemp())
    d.mkdir(parents=True, exist_ok=True)
    one = dict(kill=lambda: [kill(d, n or (70 if ranks == 1 else 30), ranks, seed)],
               term=lambda: [term(d, n or 104, seed)],
               damage=lambda: [damage(d, n or 500, seed)],
               hostile=lambda: [hostile(d/'hostile')])
    if what != 'all' and what not in one:
        raise SystemExit(f'there are {", ".join(one)} and all, not {what}')
    rows = (one[what]() if what != 'all' else
            [kill(d, 70, 1, seed), kill(d, 30, 2, seed), term(d, 104, seed), damage(d, 500, seed),
             hostile(d/'hostile')])
    for r in rows:
        print(json.dumps({k: v for k,v in r.items() if k != 'rows'}))
    if what == 'all':
        save_result('data/results/faults.json', 'python tools/faults.py all', rows=rows)
    if not folder:
        shutil.rmtree(d, ignore_errors=True)
    raise SystemExit(any(not r.get('exact', True) or r.get('accepted') or r.get('unnamed') or
                         r.get('executed') or
                         r.get('saved', 0) != (r['times'] if 'saved' in r else 0)
                         for r in rows))
