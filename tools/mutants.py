"""Small mistakes, planted one at a time: does the notebook of the module, or a test, notice?

    python tools/mutants.py --n 100 --modules grain,diffusion,samplers,content_transformer,checkpoint      → data/results/mutants.json
    python tools/mutants.py --only grain:17 --show                                                         one of them, again
"""
import ast, hashlib, json, os, random, shutil, signal, subprocess, sys, tempfile, time, warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from fastcore.script import call_parse
from tqdm.auto import tqdm
from cells import ROOT, code_of, module_of, parts, run

#                          what looks at a mutant that its own notebook lets through
TESTS = dict(
    grain=['tests/test_grain.py', 'tests/test_three_grains.py', '13_map_statistics', '20_dvae'],
    diffusion=['tests/test_diffusion.py', 'tests/test_processes.py', 'tests/test_diffusers.py', '31_samplers'],
    samplers=['tests/test_samplers.py', 'tests/test_diffusers.py', 'tests/test_pipeline.py', '60_pipeline'],
    content_transformer=['tests/test_three_grains.py', 'tests/test_pipeline.py'],
    checkpoint=['tests/test_checkpoint.py', 'tests/test_engine.py'],
    # not among the default ones
    entropy=['11_calibration', 'tests/test_grain.py'],
    dvae=['tests/test_three_grains.py', 'tests/test_latents.py'],
    blocks=['tests/test_ranks.py', '42_content_transformer'],
    grain_transformer=['tests/test_pipeline.py', '42_content_transformer'])
SWAP = {ast.Add: ('+', '-'), ast.Sub: ('-', '+'), ast.Mult: ('*', '/'), ast.Div: ('/', '*'),
        ast.FloorDiv: ('//', '*'), ast.Mod: ('%', '*'), ast.Pow: ('**', '*'), ast.MatMult: ('@', '*'),
        ast.BitAnd: ('&', '|'), ast.BitOr: ('|', '&'),
        ast.Lt: ('<', '<='), ast.LtE: ('<=', '<'), ast.Gt: ('>', '>='), ast.GtE: ('>=', '>'),
        ast.Eq: ('==', '!='), ast.NotEq: ('!=', '=='),
        ast.Is: ('is', 'is not'), ast.IsNot: ('is not', 'is'), ast.In: ('in', 'not in'), ast.NotIn: ('not in', 'in'),
        ast.And: ('and', 'or'), ast.Or: ('or', 'and')}

def mutants(text:str)->list: # (line, what, mutated text)
    "Every operator turned round, every number moved, every condition negated; not in messages, notes or annotations"
    lines = text.encode().split(b'\n')
    start = [0]
    for l in lines:
        start.append(start[-1] + len(l) + 1)
    raw = text.encode()
    def at(line, col):
        return start[line - 1] + col
    out = []
    def seen(n):
        return (at(n.lineno, n.col_offset), at(n.end_lineno, n.end_col_offset))
    def put(n, a, b, new):
        out.append((n.lineno, f'{raw[a:b].decode()} → {new}', (raw[:a] + new.encode() + raw[b:]).decode()))
    def between(n, left, right, op):
        a,b = seen(left)[1],seen(right)[0]
        old,new = SWAP[type(op)]
        i = raw.find(old.encode(), a, b)
        if i >= 0 and b'#' not in raw[a:b]:
            put(n, i, i + len(old), f' {new} ' if old.isalpha() or new.isalpha() else new)
    def walk(n):
        if (isinstance(n, (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)) or
            isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)):
            return
        if isinstance(n, ast.Call) and ast.unparse(n.func) == 'warnings.warn':
            return
        if isinstance(n, ast.BinOp):
            between(n, n.left, n.right, n.op)
        if isinstance(n, ast.BoolOp):
            [between(n, a, b, n.op) for a,b in zip(n.values, n.values[1:])]
        if isinstance(n, ast.Compare):
            [between(n, a, b, o) for a,o,b in zip([n.left, *n.comparators], n.ops, n.comparators)]
        if isinstance(n, ast.UnaryOp) and isinstance(n.op, (ast.Not, ast.USub, ast.Invert)):
            a,b = seen(n)[0],seen(n.operand)[0]
            put(n, a, b, '')
        if isinstance(n, (ast.IfExp, ast.If, ast.While)) and not isinstance(n.test, ast.Constant):
            a,b = seen(n.test)
            put(n, a, b, f'(not ({raw[a:b].decode()}))')
        if isinstance(n, ast.Constant):
            a,b = seen(n)
            if isinstance(n.value, bool):
                put(n, a, b, str(not n.value))
            elif isinstance(n.value, int):
                put(n, a, b, str(n.value + 1))
            elif isinstance(n.value, float):
                put(n, a, b, repr(n.value*2 + .1))
        for f,v in ast.iter_fields(n):
            if f in ('annotation', 'returns'):
                continue
            for c in v if isinstance(v, list) else [v]:
                if isinstance(c, ast.AST):
                    walk(c)
    walk(ast.parse(text))
    return sorted(set(out))

def at_of(m:tuple, text:str)->int:
    "Where the mutated text begins to differ: two mutants of a line may read alike"
    return next((i for i,(a,b) in enumerate(zip(m[2], text)) if a != b), min(len(m[2]), len(text)))

def in_child(f, limit:float)->str: # '' or what went wrong
    "Run in a fork, which a mutant may hang, kill or fill"
    r,w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(r)
        os.setsid()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                f()
            says = b''
        except BaseException as e:
            says = f'{type(e).__name__}: {e}'.encode()[:200] or b'?'
        os.write(w, b'=' + says)
        os._exit(0)
    os.close(w)
    end = time.time() + limit
    while time.time() < end and os.waitpid(pid, os.WNOHANG) == (0, 0):
        time.sleep(.02)
    else:
        if time.time() < end:
            got = os.read(r, 4096)
            os.close(r)
            return got[1:].decode(errors='replace') if got else 'died'
    try:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
    os.close(r)
    return 'hangs'

def own_notebook(name:str, mutated:str, folder:Path)->str:
    "The module's notebook on the mutated module"
    module = module_of(name, folder)
    whole = module.read_text()
    module.write_text(mutated)
    try:
        cells = code_of(name, folder)
    except SyntaxError as e:
        return f'SyntaxError: {e}'
    finally:
        module.write_text(whole)
    return in_child(lambda: (os.chdir(folder/'nbs'), run(cells)), 180)

def test_in_tree(t:str, folder:Path)->str:
    "A test file, or another notebook, on a tree that holds the mutant; in a fork that has torch already"
    def go():
        os.chdir(folder)
        os.environ['PYTHONPATH'] = str(folder)
        sys.path[:0] = [str(folder), str(folder/'tools'), str(folder/'tests')]
        for m in [m
                  for m in sys.modules
                  if m.split('.')[0] in ('d2it_nb', 'cells', 'faults', 'common', 'conftest')]:
            del sys.modules[m]
        if t.endswith('.py'):
            import pytest
            if rc := pytest.main(['-q', '-x', '-p', 'no:cacheprovider', t]):
                raise AssertionError(f'pytest ends with {int(rc)}')
        else:
            import cells as there
            os.chdir(folder/'nbs')
            there.run(there.code_of(t, folder))
    return in_child(go, 600)

@call_parse
def main(modules:str='grain,diffusion,samplers,content_transformer,checkpoint', # separated by commas
         n:int=100, # mutants of each, drawn at random
         seed:int=0,
         jobs:int=2,
         only:str='', # MODULE:LINE …, separated by commas: only mutants of these lines
         show:bool=False, # print how each was noticed
         tests:bool=True, # let other notebooks and tests look at what the own notebook does not notice
         out:str='data/results/mutants.json'):
    "Plant, run, count"
    import matplotlib
    matplotlib.use('Agg')
    # warm: children inherit all imports
    import d2it_nb.experiments, d2it_nb.editor, fastcore.test, pytest, hypothesis
    from d2it_nb.core import save_result
    import torch
    torch.set_num_threads(1)
    os.environ['OMP_NUM_THREADS'] = '1'
    rows = []
    for mod in modules.split(','):
        name = next(p.stem for p in (ROOT/'nbs').glob(f'[0-9]*_{mod}.ipynb'))
        module = module_of(name)
        text = module.read_text()
        body = min(i for _,i in parts(module).values())
        every = [m for m in mutants(text) if m[0] > body]
        chosen = (sorted(random.Random(f'{seed} {mod}').sample(every, min(n, len(every)))) if not only else
                  [m for m in every if f'{mod}:{m[0]}' in only.split(',')])
        # what was looked at is kept, so that the same command goes on where it was; another test looks anew
        eyes = [t if t.endswith('.py') else f'nbs/{t}.ipynb' for t in (name, *TESTS[mod])]
        state = hashlib.sha256(b''.join([text.encode(), *((ROOT/e).read_bytes() for e in eyes)])).hexdigest()[:12]
        log = ROOT/'runs'/'mutants'/f'{mod}-{state}.jsonl'
        log.parent.mkdir(parents=True, exist_ok=True)
        old = [json.loads(l) for l in log.read_text().splitlines()] if log.is_file() and tests and not only else []
        def key(m):
            return (m[0], m[1], at_of(m, text))
        wanted = {*map(key, chosen)}
        found = [r for r in old if (r['line'], r['mutant'], r['at']) in wanted]
        chosen = [m for m in chosen if key(m) not in {(r['line'], r['mutant'], r['at']) for r in found}]
        with tempfile.TemporaryDirectory() as d:
            folders = []
            for j in range(jobs):
                f = Path(d)/str(j)
                folders.append(f)
                subprocess.run(['git', 'ls-files', '-coz', '--exclude-standard'], cwd=ROOT,
                               stdout=open(f'{f}.list', 'wb'), check=True)
                for p in open(f'{f}.list').read().split('\0'):
                    if p and (ROOT/p).is_file():
                        (f/p).parent.mkdir(parents=True, exist_ok=True)
                        shutil.copy(ROOT/p, f/p)
            def look(m):
                f = folders.pop()
                try:
                    says = own_notebook(name, m[2], f)
                    by = name if says else ''
                    if not says and tests:
                        (f/module.relative_to(ROOT)).write_text(m[2])
                        try:
                            for t in TESTS[mod]:
                                if says := test_in_tree(t, f):
                                    by = t
                                    break
                        finally:
                            (f/module.relative_to(ROOT)).write_text(text)
                    return dict(line=m[0], mutant=m[1], at=at_of(m, text), code=text.split('\n')[m[0] - 1].strip()[:160], by=by, says=says)
                finally:
                    folders.append(f)
            with ThreadPoolExecutor(jobs) as pool:
                for r in tqdm(pool.map(look, chosen), total=len(chosen), desc=mod):
                    found.append(r)
                    if tests and not only:
                        with open(log, 'a') as f:
                            f.write(json.dumps(r) + '\n')
                    if show:
                        tqdm.write(f'{mod}:{r["line"]} {r["mutant"]}  [{r["code"][:90]}]  '
                                   f'{r["by"] or "NOT NOTICED"} {r["says"][:90]}')
        found.sort(key=lambda r: (r['line'], r['at']))
        killed = sum(bool(r['by']) for r in found)
        rows.append(dict(module=mod, possible=len(every), planted=len(found), noticed=killed,
                         by_own_notebook=sum(r['by'] == name for r in found),
                         survivors=[{k: r[k] for k in ('line', 'mutant', 'code')}
                                    for r in found if not r['by']]))
        print(json.dumps({k: v for k,v in rows[-1].items() if k != 'survivors'}), flush=True)
    if not only:
        save_result(out, f'python tools/mutants.py --n {n} --seed {seed} --modules {modules}', rows=rows)
