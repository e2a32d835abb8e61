"""Which lines of the modules do notebooks and tests run?  → data/results/lines.json

    python tools/lines.py                 all of them (half an hour on two cores)
    python tools/lines.py --what cells    the notebooks alone
"""
import json, os, subprocess, sys, tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from fastcore.script import call_parse
from tqdm.auto import tqdm

ROOT = Path(__file__).resolve().parent.parent

@call_parse
def main(what:str='cells,tests', # notebooks, tests or both
         jobs:int=2,
         out:str='data/results/lines.json'):
    "Run them under coverage, count lines by module, list what nothing ran"
    from d2it_nb.core import save_result
    with tempfile.TemporaryDirectory() as d:
        rc = Path(d)/'rc'
        rc.write_text(f'[run]\nsource = {ROOT}/d2it_nb\nparallel = true\nconcurrency = thread, multiprocessing\n'
                      f'data_file = {d}/data\n[report]\nexclude_also =\n    if __name__ == .__main__.:\n')
        env = os.environ | dict(COVERAGE_PROCESS_START=str(rc), PYTHONPATH=str(ROOT/'tests'/'offline'),
                                OMP_NUM_THREADS='1', MPLBACKEND='Agg', PYTHONWARNINGS='ignore')
        cov = [sys.executable, '-m', 'coverage']
        names = sorted(p.stem for p in (ROOT/'nbs').glob('[0-9]*.ipynb')) if 'cells' in what else []
        # the notebooks are run as cells, and the repository's checks run no line of a module
        others = 'test_notebooks.py', 'test_repository.py'
        tests = sorted(p.name for p in (ROOT/'tests').glob('test_*.py') if p.name not in others) if 'tests' in what else []
        cmds = ({n: [sys.executable, 'tools/cells.py', n] for n in names} |
                {t: [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', f'tests/{t}']
                 for t in tests})
        def one(k):
            r = subprocess.run(cmds[k], cwd=ROOT, env=env, capture_output=True, text=True)
            return k,r.returncode,(r.stdout + r.stderr)[-800:]
        with ThreadPoolExecutor(jobs) as pool:
            bad = [(k, says)
                   for k,rc_,says in tqdm(pool.map(one, cmds), total=len(cmds), desc='under coverage') if rc_]
        for k,says in bad:
            print(f'{k} failed, its lines count all the same:\n{says}', file=sys.stderr)
        subprocess.run([*cov, 'combine', '-q', f'--rcfile={rc}'], cwd=d, check=True, env=env)
        subprocess.run([*cov, 'json', '-q', f'--rcfile={rc}', '-o', f'{d}/all.json'], cwd=ROOT, check=True, env=env)
        found = json.loads((Path(d)/'all.json').read_text())
    rows = [dict(module=Path(f).stem, lines=s['num_statements'], run=s['covered_lines'],
                 share=s['covered_lines']/max(1, s['num_statements']), missing=v['missing_lines'])
            for f,v in sorted(found['files'].items()) if not Path(f).name.startswith('_')
            for s in [v['summary']]]
    n,k = (sum(r[w] for r in rows) for w in ('lines', 'run'))
    for r in rows:
        print(f'{r["module"]:22} {r["run"]:4} of {r["lines"]:4}  {r["share"]:.1%}  '
              f'{r["missing"] if len(r["missing"]) < 30 else len(r["missing"])}')
    print(f'all: {k} of {n}, {k/n:.1%}')
    save_result(out, f'python tools/lines.py --what {what}', lines=n, run=k, share=k/n, rows=rows)
    if bad:
        sys.exit(f'{", ".join(k for k,_ in bad)} failed')
