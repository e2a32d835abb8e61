"The repository as it lies: tidy notebooks, modules that are their export, a README, a site, packages."
import filecmp, os, re, shutil, subprocess, sys, venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

def run(*command, cwd=ROOT, **env):
    env = os.environ | dict(PATH=f'{BIN}{os.pathsep}{os.environ["PATH"]}', MPLBACKEND='Agg') | env
    r = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True)
    assert r.returncode == 0, f'{" ".join(map(str, command))} ended with {r.returncode}:\n{(r.stdout + r.stderr)[-4000:]}'
    return r.stdout

def copy(folder, *parts):
    "What git would take of these files and folders"
    for f in run('git', 'ls-files', '-co', '--exclude-standard', '--', *parts).splitlines():
        if (ROOT/f).is_file():
            (folder/f).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT/f, folder/f)
    return folder

def test_notebooks_are_tidy(tmp_path):
    "In a copy, so that a check that is broken off changes nothing"
    copy(tmp_path, 'nbs', 'settings.ini', 'tools/nbtidy.py')
    run(sys.executable, 'tools/nbtidy.py', '--check', cwd=tmp_path)

def test_modules_are_what_the_notebooks_export(tmp_path):
    copy(tmp_path, 'nbs', 'settings.ini', 'd2it_nb')
    run('nbdev_export', cwd=tmp_path)
    here, there = (sorted(str(p.relative_to(root/'d2it_nb')) for p in (root/'d2it_nb').rglob('*.py')) for root in (ROOT, tmp_path))
    assert here == there
    _, differ, missing = filecmp.cmpfiles(ROOT/'d2it_nb', tmp_path/'d2it_nb', here, shallow=False)
    assert not differ + missing, f'modules and notebooks are apart: {differ + missing}. Run nbdev_export'
    for module in (ROOT/'d2it_nb').rglob('[!_]*.py'):
        notebook = re.search(r'File to edit: (\S+)\.', module.read_text())
        assert notebook and (module.parent/notebook[1]).resolve().is_file(), f'{module.name} has no notebook'

def test_lint():
    run('ruff', 'check', '-q', '--select', 'E701,E702,E731,E9,F63,F7,F82,F811,B006,B008,PLE', '--ignore', 'F403,F405',
        'nbs', 'd2it_nb', 'tests', 'tools', 'setup.py')

def test_readme_is_the_index():
    run(sys.executable, 'tools/readme.py', '--check')

def test_an_environment_that_is_there_is_used_as_it_is(tmp_path):
    "And one that is not there is made"
    (tmp_path/'theirs'/'bin').mkdir(parents=True)
    (tmp_path/'theirs'/'bin'/'python').symlink_to(sys.executable)
    def does(folder):
        return run('make', '-n', 'test', f'VENV={tmp_path/folder}', MAKEFLAGS='', MFLAGS='')
    assert 'pip install' in does('new') and '-m venv' in does('new')
    assert 'pip' not in does('theirs') and 'tools/check.py' in does('theirs')

def test_the_site_can_be_built_and_no_link_leads_nowhere(tmp_path):
    run(sys.executable, 'tools/docs/build.py', '--out', tmp_path/'site')

def test_packages_draw_a_picture_without_this_checkout(tmp_path):
    "sdist → wheel → a new environment"
    run(sys.executable, '-m', 'build', '-n', '-o', tmp_path/'dist', copy(tmp_path/'src', '.'))
    venv.create(tmp_path/'env', with_pip=False)
    def packages(env):
        return next((env/'lib').glob('python*'))/'site-packages'
    # the dependencies, not the checkout
    (packages(tmp_path/'env')/'deps.pth').write_text(f'{packages(BIN.parent)}\n')
    run(sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--target', packages(tmp_path/'env'),
        next((tmp_path/'dist').glob('*.whl')))
    code = ('import d2it_nb, d2it_nb.pipeline as p; assert "site-packages" in d2it_nb.__file__, d2it_nb.__file__; '
            'print(tuple(p.D2iTPipeline.load().generate("roses", steps=4).x.shape))')
    assert '(1, 3, 64, 64)' in run(tmp_path/'env'/'bin'/'python', '-c', code, cwd=tmp_path, PYTHONPATH='')
