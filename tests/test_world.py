"""Any number of ranks, in any order, by DDP or FSDP: the same samples, the same losses; and what happens when a rank dies or hangs.

At the paper's learning rate, like `test_ranks`."""
import contextlib, json, os, shutil, signal, subprocess, sys, time
from pathlib import Path
import pytest, torch
from common import finished, killed, losses, started, train, wait_for
from faults import arguments, command, descendants, env, kill_all
from d2it_nb.checkpoint import load_checkpoint, newest
from d2it_nb.content_transformer import D2iT
from d2it_nb.core import load_net

@pytest.fixture(scope='module')
def base(tmp_path_factory):
    d = tmp_path_factory.mktemp('base')
    train('dvae', d/'dvae', '--steps', 4, '--save_every', 4)
    train('content', d/'one', *flags(d))
    return d

def flags(d, steps=10):
    return ['--dvae', d/'dvae', '--latents', d/'latents', '--lr', 1e-4, '--steps', steps, '--save_every', 5]

def same(a, b):
    torch.testing.assert_close(torch.tensor(a), torch.tensor(b), rtol=1e-5, atol=0)

@pytest.mark.stress
def test_fsdp_is_watched_as_one_rank_is(base, tmp_path):
    "Three held-out pictures on two ranks, one of which has more of them"
    rows = []
    for ranks,how in ((1, 'ddp'), (2, 'fsdp')):
        train('content', tmp_path/how, *flags(base, 4), '--eval_every', 4, '--eval_n', 3, '--parallel', how,
              ranks=ranks)
        assert (tmp_path/how/'pictures'/'step-000004.png').is_file()
        rows += [json.loads(l) for l in (tmp_path/how/'eval.jsonl').read_text().splitlines()]
    a,b = rows
    assert a.keys() == b.keys() and a['n'] == 3
    assert .2 < a['loss'] < 2 and a['pFD'] > 0
    for k in a:
        assert b[k] == pytest.approx(a[k], rel=.02 if k == 'pFD' else 1e-4), k

def test_one_two_four_one(base, tmp_path):
    out = tmp_path/'c'
    for ranks,steps,says in ((1, 3, ''),
                             (2, 6, 'now into 2 rank(s) × 1 × 4'),
                             (4, 8, 'now into 4 rank(s) × 1 × 2'),
                             (1, 10, 'now into 1 rank(s) × 1 × 8')):
        train('content', out, *flags(base, steps), ranks=ranks, says=says)
    same(losses(out), losses(base/'one'))

def test_fsdp_equals_ddp_and_reads_its_checkpoints(base, tmp_path):
    "Two ranks; the second half by the other way, or by one rank alone"
    one = losses(base/'one')
    fsdp = ['--parallel', 'fsdp', '--ema', '0.9999,0.9']
    whole = train('content', tmp_path/'fsdp', *flags(base), *fsdp, '--micro', 2, ranks=2)
    same(whole, one)
    files = sorted(p.name for p in newest(tmp_path/'fsdp'/'checkpoints')[0].iterdir())
    assert ('net-0of2.safetensors' in files and
            'opt-net-1of2.safetensors' in files and 'net.safetensors' not in files)
    # consolidated, and the same average
    net = load_net(tmp_path/'fsdp'/'model', D2iT)
    ref = load_net(base/'one'/'model', D2iT)
    for (k,a),b in zip(net.state_dict().items(), ref.state_dict().values()):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5, msg=k)
    for first in ('fsdp', 'ddp'):
        train('content', tmp_path/first[0], *flags(base, 5), '--parallel', first, ranks=2)
    for name,then,ranks in (('fd', 'ddp', 2), ('df', 'fsdp', 2), ('f1', 'ddp', 1)):
        shutil.copytree(tmp_path/name[0], tmp_path/name)
        same(train('content', tmp_path/name, *flags(base), '--parallel', then, ranks=ranks,
                   says='resuming at step 5'), one)
        a,b = (load_checkpoint(p/'checkpoints')[0] for p in (tmp_path/name, base/'one'))
        for part in b:
            for k,v in b[part].items():
                torch.testing.assert_close(a[part][k], v, rtol=1e-3, atol=2e-5, msg=f'{name} {part} {k}')

def workers_of(p):
    "Rank → pid, of the processes that a launcher has started"
    found = {}
    for q in descendants(p.pid)[1:]:
        with contextlib.suppress(OSError):            # gone in the meantime
            e = dict(kv.split('=', 1) for kv in open(f'/proc/{q}/environ').read().split('\0') if '=' in kv)
            if 'RANK' in e:
                found.setdefault(int(e['RANK']), q)
    return found

def known_costs():
    from d2it_nb.plan import _costs
    print(len(_costs))
def test_forks_know_the_costs_of_tiny_steps():
    "Three stages, the first also without a discriminator, batches of eight and three parts of them: or `warm` is not what its name says"
    assert finished(known_costs).stdout == '16\n'

def start(base, out, *more, steps=60, restarts=0):
    cmd = command('content', out, *flags(base, steps), *more, ranks=2)
    if restarts:
        cmd.insert(cmd.index('--standalone') + 1, f'--max-restarts={restarts}')
    p = subprocess.Popen(cmd, env=env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(p, lambda: len(losses(out)) >= 6, every=.05)
    return p, workers_of(p)

@contextlib.contextmanager
def ended(p):
    "Whatever happens, nothing of it goes on"
    try:
        yield
    finally:
        kill_all(p.pid)

@pytest.mark.parametrize('victims', [(1, 0), pytest.param((0, 1), marks=pytest.mark.stress)])
def test_killed_ranks(base, tmp_path, victims):
    "The launcher starts them again, once; after another kill the job ends, and the same command goes on"
    out = tmp_path/'c'
    p,first = start(base, out, steps=400, restarts=1)
    with ended(p):
        os.kill(first[victims[0]], signal.SIGKILL)
        done = len(losses(out))
        def again():
            if len(losses(out)) < done + 5:
                return False
            now = workers_of(p)
            return len(now) == 2 and not {*now.values()} & {*first.values()}
        wait_for(p, again, every=.1)
        os.kill(workers_of(p)[victims[1]], signal.SIGKILL)
        says = p.communicate(timeout=60)[0]
    assert p.returncode == 1 and 'resuming at step ' in says and not (out/'model.json').exists(), says[-3000:]
    end = newest(out/'checkpoints')[1]['step'] + 5
    assert end > done
    same(train('content', out, *flags(base, end), says='resuming at step '),
         train('content', tmp_path/'whole', *flags(base, end)))

@pytest.mark.stress
def test_a_killed_rank_is_started_again_and_the_job_ends_well(base, tmp_path):
    out = tmp_path/'c'
    p,first = start(base, out, restarts=1)
    with ended(p):
        os.kill(first[0], signal.SIGKILL)
        says = p.communicate(timeout=120)[0]
    assert p.returncode == 0 and 'resuming at step ' in says and (out/'model.json').exists(), says[-3000:]
    same(losses(out), train('content', tmp_path/'whole', *flags(base, 60)))

def test_a_rank_that_hangs_ends_the_job_within_its_timeout(base, tmp_path):
    "The other rank ends by itself, and a launcher all of them then"
    out = tmp_path/'a'
    forks = started('d2it_nb.train', *arguments('content', out, *flags(base, 1000), '--timeout', 8), ranks=2)
    try:
        wait_for(forks[0], lambda: len(losses(out)) >= 12)
        os.kill(forks[1].pid, signal.SIGSTOP)
        t = time.time()
        status = forks[0].wait(40)
        assert time.time() - t < 25
    finally:
        killed(forks)
    says = forks[0].said()[1]
    assert status == 1 and 'rank 0 of 2 lost the others after step ' in says, says[-3000:]

def test_a_logger_that_fails_costs_no_step_and_a_rank_that_fails_says_where(base, tmp_path, monkeypatch):
    (tmp_path/'listeners.py').write_text("""
def once(cfg):
    def hook(line):
        if line['step'] == 2: raise KeyError('no such project')
    return hook
def never(cfg): raise RuntimeError('the server is down')""")
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    train('content', tmp_path/'a', *flags(base, 6), '--logger', 'listeners:once', ranks=2,
          says='a logger failed at step 2')
    same(losses(tmp_path/'a'), losses(base/'one')[:6])
    r = finished('d2it_nb.train', *arguments('content', tmp_path/'b', *flags(base, 6), '--logger', 'listeners:never'),
                 ranks=2)
    assert (r.returncode == 1 and
            'rank 0 of 2 failed after step 0: the server is down' in r.stderr and
            'in never' in r.stderr), r.stderr[-3000:]

compiled = torch.nn.Module.compile
def without_code_generation():
    "torch.compile traces forward and backward pass, and runs the graphs as they are: a minute of g++ less; and only rank 0 does"
    def compile(self, **how):
        if os.environ['RANK'] == '0':
            print('a block is compiled', flush=True)
            compiled(self, backend='aot_eager', **how)
    torch.nn.Module.compile = compile

@pytest.mark.skipif(not shutil.which('g++'), reason='torch.compile needs a C++ compiler on a CPU')
@pytest.mark.parametrize('before', [without_code_generation, pytest.param(None, marks=pytest.mark.stress)])
def test_compiled_sharded_and_computed_twice(base, tmp_path, before):
    "All three at once change nothing; one block of each net"
    how = [*flags(base, 6), '--depth', 1, '--refine_depth', 1]
    same(train('content', tmp_path/'c', *how, '--parallel', 'fsdp', '--compile', 'true', '--recompute', 'true',
               ranks=2, before=before, says='a block is compiled' if before else ''),
         train('content', tmp_path/'one', *how))

def test_the_batch_script_runs(base, tmp_path):
    "With stand-ins for SLURM's commands: one machine, two processes"
    for name,does in dict(scontrol='echo localhost', srun='exec "$@"',
                          torchrun=f'exec {sys.executable} -m torch.distributed.run "$@"').items():
        f = tmp_path/name
        f.write_text(f'#!/bin/sh\n{does}\n')
        f.chmod(0o755)
    slurm = dict(PATH=f'{tmp_path}:{os.environ["PATH"]}', SLURM_JOB_NODELIST='localhost',
                 SLURM_JOB_NUM_NODES='1', SLURM_JOB_ID='7', SLURM_GPUS_ON_NODE='2')
    script = str(Path(__file__).parent.parent/'tools'/'train.sbatch')
    r = subprocess.run(['bash', script, *command('content', tmp_path/'c', *flags(base, 10))[3:]],
                       env=env() | slurm, capture_output=True, text=True)
    assert r.returncode == 0 and 'no problem found' in r.stdout, r.stderr[-3000:]
    same(losses(tmp_path/'c'), losses(base/'one')[:10])
