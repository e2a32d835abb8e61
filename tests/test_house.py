"The order of the house: numbers are the order of imports, networks know nothing of data or training."
import ast, builtins, dis, importlib, json, re, subprocess, sys, types
from pathlib import Path
import pytest
import style

ROOT = Path(__file__).resolve().parent.parent
NBS = {p.stem.split('_', 1)[1]: (int(p.stem.split('_')[0]), p) for p in (ROOT/'nbs').glob('[0-9]*_*.ipynb')}
MODULES = {p.stem: p for p in (ROOT/'d2it_nb').rglob('*.py') if p.stem[0] != '_'}      # of all wings: a name is there once
PURE = ('core metrics extractors entropy calibration grain linear_code dvae vae_losses diffusion samplers blocks '
        'grain_transformer content_transformer'.split())

def imports(path):
    "Top-level names of everything a module imports, and the project's modules among them"
    out,own = set(),set()
    for n in ast.walk(ast.parse(path.read_text())):
        names = ([a.name for a in n.names] if isinstance(n, ast.Import) else
                 [n.module] if isinstance(n, ast.ImportFrom) else
                 [])
        for m in names:
            if m:
                out |= {m, m.split('.')[0]}
            if m and m.startswith('d2it_nb.'):
                own.add(m.split('.')[-1])
        # nbdev writes relative imports
        if isinstance(n, ast.ImportFrom) and n.level:
            own.add(n.module.split('.')[-1])
    return out, own

def test_imports_are_seen():
    assert {'core', 'dvae', 'dist'} <= imports(MODULES['dvae_stage'])[1]

def test_every_module_has_its_notebook():
    assert set(MODULES) == set(NBS) - {'tour'}
    assert len(MODULES) == len([p for p in (ROOT/'d2it_nb').rglob('*.py') if p.stem[0] != '_'])

@pytest.mark.parametrize('name', sorted(MODULES))
def test_imports_only_smaller_numbers(name):
    assert all(NBS[m][0] < NBS[name][0] for m in imports(MODULES[name])[1] - {name})

@pytest.mark.parametrize('name', PURE)
def test_networks_know_no_data_and_no_training(name):
    ext,own = imports(MODULES[name])
    assert own <= set(PURE)
    assert not ext & {'ipywidgets', 'anywidget', 'skimage', 'PIL', 'matplotlib', 'tqdm', 'torch.distributed',
                      'torchvision', 'diffusers'}

def test_only_their_owners_import_widgets_and_ranks():
    assert [n for n in sorted(MODULES) if imports(MODULES[n])[0] & {'ipywidgets', 'anywidget'}] == ['canvas', 'editor', 'stepper']
    users = {n for n in MODULES
             if 'torch.distributed' in MODULES[n].read_text() and
                re.search(r'^(import|from) .*torch\.distributed|^import torch, torch\.distributed',
                          MODULES[n].read_text(), re.M)}
    assert users <= {'dist', 'checkpoint', 'latents', 'train', 'evaluate'} and 'dist' in users

def test_imports_without_widgets_or_torchvision():
    "All three in one process, so none of them does"
    code = ('import sys, d2it_nb.content_transformer, d2it_nb.pipeline, d2it_nb.train; '
            'bad = [m for m in ("ipywidgets", "anywidget", "skimage", "torchvision", "IPython") if m in sys.modules]; '
            'assert not bad, bad')
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0

def test_notebooks_have_titles_subtitles_and_light_outputs():
    for p in (ROOT/'nbs').glob('[0-9]*.ipynb'):
        first = ''.join(json.loads(p.read_text())['cells'][0]['source'])
        assert re.match(r'# .+\n> .+', first), f'{p.name}: title and subtitle'
        assert p.stat().st_size < 700_000, f'{p.name} is heavy'

def test_exported_names_are_documented():
    for name,path in MODULES.items():
        for n in ast.parse(path.read_text()).body:
            if (isinstance(n, (ast.FunctionDef, ast.ClassDef)) and
                n.name[0] != '_' and n.body[0].lineno - n.lineno > 3):
                assert ast.get_docstring(n), f'{name}.{n.name} has no docstring'

@pytest.mark.parametrize('name', sorted(MODULES))
def test_exported_code_needs_nothing_that_only_its_notebook_has(name):
    module = importlib.import_module('.'.join(MODULES[name].relative_to(ROOT).with_suffix('').parts))
    def wanted(code):
        out = {i.argval for i in dis.get_instructions(code) if i.opname == 'LOAD_GLOBAL'}
        return out.union(*map(wanted, (c for c in code.co_consts if isinstance(c, types.CodeType))))
    code = compile(MODULES[name].read_text(), name, 'exec')
    assert not wanted(code) - set(vars(module)) - set(vars(builtins))

@pytest.mark.parametrize('name', sorted(p.stem for p in (ROOT/'nbs').glob('*.ipynb')))
def test_code_breathes(name):
    "Lines, statements, names and lessons, as CONTRIBUTING.md asks for"
    book = style.Notebook(ROOT/'nbs'/f'{name}.ipynb')
    assert not book.faults()
    assert not book.unshown()

def test_code_is_not_packed():
    "Syntax nodes per line of all modules; lines in exported cells that are longer than one looks at"
    books = [style.Notebook(p) for p in (ROOT/'nbs').glob('*.ipynb')]
    rows = [book.figures() for book in books]
    assert sum(row['nodes'] for row in rows) < 7*sum(row['lines'] for row in rows)

def test_the_rules_see_what_breaks_them(tmp_path):
    cells = ["#| export\ndef shown(x): return x", "a,b,c = 1,2,3", "f = lambda x: x", 'x = 1; y = 2', f'z = {"1 + "*30}1',
             "[[[i for i in a] for a in b] for b in c]", "#| export\ndef hidden():\n    pass", "shown(1)"]
    nb = dict(cells=[dict(cell_type='code', source=[cell]) for cell in cells])
    (tmp_path/'odd.ipynb').write_text(json.dumps(nb))
    book = style.Notebook(tmp_path/'odd.ipynb')
    found = ' '.join(book.faults())
    for rule in ('over 100 columns', 'several statements', 'more than two names', 'a lambda', 'nested deeper'):
        assert rule in found
    assert len(book.faults()) == 6 and book.unshown() == ['hidden']
