"Starting training runs as a user does: as processes."
import json, os, subprocess, sys
from pathlib import Path

def env(**kw): return dict(os.environ, OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore', **kw)

def command(stage, out, *flags, ranks=1):
    start = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(ranks)] if ranks > 1 else []
    return [sys.executable, *start, '-m', 'd2it_nb.train', stage, '--preset', 'tiny', '--device', 'cpu', '--out', str(out), *map(str, flags)]

def train(*args, ranks=1, says=''):
    r = subprocess.run(command(*args, ranks=ranks), env=env(), capture_output=True, text=True)
    assert r.returncode == 0, r.stderr[-9000:]
    assert says in r.stdout, r.stdout[-3000:]
    return losses(args[1])

def losses(out): return [json.loads(l)['loss'] for l in (Path(out)/'log.jsonl').read_text().splitlines()]
