("All checks of `make test`, in order, each with its time. "
 "Ends with a line `N passed, 0 failed`: notebooks and tests together.")
import filecmp, os, re, shutil, subprocess, sys, tempfile, time, venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
ENV = dict(os.environ, PATH=f'{BIN}{os.pathsep}{os.environ["PATH"]}', MPLBACKEND='Agg')

def run(*cmd, **kw):
    return subprocess.run([str(c) for c in cmd], cwd=kw.pop('cwd', ROOT), env=ENV | kw.pop('env', {}), **kw)
def must(*cmd, **kw):
    if rc := run(*cmd, **kw).returncode: raise SystemExit(f'failed with status {rc}: {" ".join(map(str, cmd))}')

def tidy(): must(sys.executable, 'tools/nbtidy.py', '--check')

def in_step():
    "Exporting the notebooks changes nothing, and every module has its notebook"
    with tempfile.TemporaryDirectory() as d:
        old = Path(d)/'old'
        shutil.copytree(ROOT/'d2it_nb', old, ignore=shutil.ignore_patterns('__pycache__'))
        must('nbdev_export')
        names = sorted({p.name for q in (old, ROOT/'d2it_nb') for p in q.glob('*.py')})
        _,differ,missing = filecmp.cmpfiles(old, ROOT/'d2it_nb', names, shallow=False)
        if differ or missing: raise SystemExit(f'modules and notebooks are apart: {differ + missing}. Run nbdev_export')
    for p in (ROOT/'d2it_nb').glob('*.py'):
        m = re.search(r'File to edit: (\S+)\.', p.read_text())
        if p.name not in ('__init__.py', '_modidx.py') and not (m and (ROOT/'d2it_nb'/m[1]).resolve().is_file()):
            raise SystemExit(f'{p.name} has no notebook')

def lint():
    must('ruff', 'check', '-q', '--select', 'E9,F63,F7,F82,F811,B006,B008,PLE', '--ignore', 'F403,F405',
         'nbs', 'd2it_nb', 'tests', 'tools', 'setup.py')

def readme(): must(sys.executable, 'tools/readme.py', '--check')

def site():
    "The site can be built, and no link in it leads nowhere"
    with tempfile.TemporaryDirectory() as d:
        must(sys.executable, 'tools/docs/build.py', '--out', f'{d}/site', stdout=subprocess.DEVNULL)

def packages():
    "sdist → wheel → a new environment without this checkout, where the bundled weights draw a picture"
    with tempfile.TemporaryDirectory() as d:
        d = Path(d); src = d/'src'
        files = run('git', 'ls-files', '-co', '--exclude-standard', stdout=subprocess.PIPE,
                    text=True).stdout.split('\n')
        for f in filter(None, files):
            if (ROOT/f).is_file():
                (src/f).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT/f, src/f)
        must(sys.executable, '-m', 'build', '-n', '-o', d/'dist', src, stdout=subprocess.DEVNULL)
        venv.create(d/'env', with_pip=False)
        site = next((d/'env'/'lib').glob('python*'))/'site-packages'
        # the dependencies, not the checkout
        (site/'deps.pth').write_text(f'{next((BIN.parent/"lib").glob("python*"))/"site-packages"}\n')
        must(sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--target', site,
             next((d/'dist').glob('*.whl')))
        code = ('import d2it_nb, d2it_nb.pipeline as p; assert "site-packages" in d2it_nb.__file__, d2it_nb.__file__; '
                'x = p.D2iTPipeline.load().generate("roses", steps=4).x; '
                'assert x.shape == (1, 3, 64, 64), x.shape; print("wheel:", tuple(x.shape))')
        must(d/'env'/'bin'/'python', '-c', code, cwd=d)

def tests():
    "pytest; returns how many passed"
    r = run(sys.executable, '-m', 'pytest', '-q', '-rs', '-n', 2, '--dist', 'loadfile', '--durations', 8, 'tests',
            env=dict(OMP_NUM_THREADS='1'), stdout=subprocess.PIPE, text=True)
    print(r.stdout, flush=True)
    m = re.search(r'(\d+) passed', r.stdout)
    if r.returncode or not m: raise SystemExit('tests failed')
    return int(m[1])

def notebooks():
    "nbdev_test over all notebooks, where connections to other machines are refused and told; returns how many ran"
    fs = sorted(p for p in (ROOT/'nbs').glob('*.ipynb')); log = Path(tempfile.mkdtemp())/'log'
    r = run('timeout', 2400, 'nbdev_test', '--n_workers', 2,
            '--timing', env=dict(OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT/'tests'/'offline'),
                                 OFFLINE_LOG=str(log)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True)
    ran = re.findall(r'(\w+)\.ipynb: \d+ secs', r.stdout)
    if r.returncode: print(r.stdout[-8000:])
    if r.returncode or 'Success' not in r.stdout: raise SystemExit('notebooks failed')
    if log.is_file(): raise SystemExit(f'notebooks tried to reach other machines:\n{log.read_text()}')
    missing = {p.stem for p in fs} - set(ran)
    if missing: raise SystemExit(f'notebooks that did not run: {sorted(missing)}')
    return len(ran)

if __name__ == '__main__':
    os.chdir(ROOT); total = 0
    for f in (tidy, in_step, lint, readme, site, packages, tests, notebooks):
        t = time.time(); n = f(); total += n or 0
        print(f'✓ {f.__name__}{f" ({n})" if n else ""}: {time.time() - t:.0f} s', flush=True)
    print(f'{total} passed, 0 failed')
