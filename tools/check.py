"""`make test`: every test and every notebook, on all cores at once, and what it cost.

    python tools/check.py                 all of it
    python tools/check.py --remember      and keep this machine's seconds: tests/seconds.json (the longest go first) and tests/README.md
"""
import ast, json, os, subprocess, sys, time
from pathlib import Path
from fastcore.script import call_parse, store_true

ROOT = Path(__file__).resolve().parent.parent
# seconds of a core, on the machine that tests/README.md names; others differ by a factor of two, so that going over is told, and no failure
BUDGET = dict(all=800, notebooks=400, notebook=30)

def run_all(note:Path)->int: # pytest's status
    "Everything below tests/, as many at a time as there are cores"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    cores = max(1, min(cores, 8))
    return subprocess.run([sys.executable, '-m', 'pytest', '-q', '-rfEs', '-n', str(cores), '--dist', 'loadscope',
                           '--no-loadscope-reorder', 'tests'],
                          cwd=ROOT, env=os.environ | dict(OMP_NUM_THREADS='1', CPU_SECONDS=str(note))).returncode

def about(group:str)->str:
    "The first line of a test file; what a notebook is called; a check of the repository"
    module = ROOT/'tests'/f'{group}.py'
    notebook = ROOT/'nbs'/f'{group}.ipynb'
    if module.is_file():
        return ast.get_docstring(ast.parse(module.read_text())).split('\n')[0]
    if notebook.is_file():
        title = json.loads(notebook.read_text())['cells'][0]['source']
        return title[0].strip('# \n') if title[0].startswith('# ') else 'README'
    return group.removeprefix('test_').replace('_', ' ')

def over_budget(cost:dict)->list: # of sentences
    "What takes longer than it should"
    notebooks = {g: s for g, s in cost['groups'].items() if (ROOT/'nbs'/f'{g}.ipynb').is_file()}
    found = dict(all=sum(cost['groups'].values()), notebooks=sum(notebooks.values()))
    says = [f'{k}: {v:.0f} s of a core, {BUDGET[k]} are meant to be enough' for k, v in found.items() if v > BUDGET[k]]
    return says + [f'{g}: {s:.0f} s of a core, a notebook may take {BUDGET["notebook"]}'
                   for g, s in notebooks.items() if s > BUDGET['notebook']]

def keep(cost:dict, wall:float):
    "Keep the seconds, for the order of the next run and for readers"
    from d2it_nb.core import as_table, machine
    rounded = {g: round(s, 1) for g, s in cost['groups'].items()}
    (ROOT/'tests'/'seconds.json').write_text(json.dumps(dict(machine=machine(), groups=rounded), indent=1) + '\n')
    rows = [{'seconds': s, 'what runs': f'`{g}`', 'about': about(g)} for g, s in rounded.items()]
    m = machine()
    (ROOT/'tests'/'README.md').write_text('\n'.join([
        '# What `make test` runs', '',
        f'{sum(rounded.values()):.0f} seconds of a core, {wall:.0f} s on the clock of {m["cores"]} cores ({m["cpu"]}, PyTorch {m["torch"]}). '
        'Written by `python tools/check.py --remember`. The long versions are in `make stress`.', '',
        as_table(rows), '']))

@call_parse
def main(remember:store_true=False, # write down the seconds
        ):
    "Run, count, warn; exit status 1 if anything failed"
    began = time.time()
    note = ROOT/'.pytest_cache'/'seconds.json'
    note.parent.mkdir(exist_ok=True)
    note.unlink(missing_ok=True)
    status = run_all(note)
    if not note.is_file():
        sys.exit(f'pytest ended with {status} before its first test')
    cost = json.loads(note.read_text())
    wall = time.time() - began
    cost = {k: dict(v) if isinstance(v, list) else v for k, v in cost.items()}
    print(f'\n{sum(cost["groups"].values()):.0f} seconds of a core, {wall:.0f} s on the clock. The slowest:')
    for name, s in list(cost['tests'].items())[:5]:
        print(f'{s:6.1f} s  {name}')
    for sentence in over_budget(cost):
        print(f'OVER BUDGET  {sentence}')
    if remember and not status:
        keep(cost, wall)
    print(f'{cost["passed"]} passed, {cost["failed"]} failed')
    sys.exit(bool(status))
