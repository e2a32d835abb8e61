"""A notebook's cells, run in this process; its exported cells are taken from the module, and count as lines of the module.

    python tools/cells.py NAME …        run these notebooks (with `coverage run`, the lines of the modules are counted); tells the cells that take more than a second of a core
"""
import os, re, sys, time, types
from pathlib import Path
import nbformat
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).resolve().parent.parent

def parts(module:Path)->dict: # cell id → (source, line before its first one)
    lines = module.read_text().split('\n')
    out = {}
    at = None
    for i,l in enumerate(lines):
        if m := re.match(r'# %% (?:\.\./)+nbs/\S+\.ipynb #(\S+)', l):
            at = m[1]
            out[at] = [],i + 1
        elif at:
            out[at][0].append(l)
    return {k: ('\n'.join(ls), i) for k,(ls,i) in out.items()}

def module_of(name:str, root:Path=ROOT)->Path: # None: it exports nothing
    "The module that nbs/NAME.ipynb exports, in d2it_nb or in one of its wings"
    return next((root/'d2it_nb').rglob(f'{name.split("_", 1)[-1]}.py'), None)

def code_of(name:str, root:Path=ROOT)->list: # (compiled cell, its text)
    "All cells of nbs/NAME.ipynb that nbdev_test would run"
    nb = nbformat.read(root/'nbs'/f'{name}.ipynb', 4)
    module = module_of(name, root)
    own = parts(module) if module else {}
    t = TransformerManager()
    out = []
    for i,c in enumerate(nb.cells):
        if c.cell_type != 'code' or re.search(r'^#\| *(eval: *false|slow|cuda|default_exp)', c.source, re.M):
            continue
        if c.id in own and re.match(r'#\| *export', c.source):
            text,line = own[c.id]
            out.append((compile('\n'*line + text, str(module), 'exec'), text))
        else:
            out.append((compile(t.transform_cell(c.source), f'{name}, cell {i}', 'exec'), c.source))
    return out

def package_of(module:Path)->str:
    "From which its relative imports start"
    folders = module.parent.parts
    return '.'.join(folders[len(folders) - 1 - folders[::-1].index('d2it_nb'):])

def run(cells:list, slow:float=None): # tell which cells take more seconds of a core
    "In a namespace that takes itself for the main program"
    m = types.ModuleType('__main__')
    m.__dict__.update(display=lambda *a: None, get_ipython=lambda: None)
    old,sys.modules['__main__'] = sys.modules['__main__'],m
    try:
        for code,text in cells:
            if code.co_filename.endswith('.py'):
                m.__package__ = package_of(Path(code.co_filename))
            t = time.process_time()
            exec(code, m.__dict__)
            t = time.process_time() - t
            if slow is not None and t > slow:
                print(f'{t:6.1f} s  {text[:90]!r}', flush=True)
    finally:
        sys.modules['__main__'] = old

if __name__ == '__main__':
    import matplotlib
    matplotlib.use('Agg')
    os.chdir(ROOT/'nbs')
    for n in sys.argv[1:] or sorted(p.stem for p in (ROOT/'nbs').glob('[0-9]*.ipynb')):
        t = time.time()
        run(code_of(n), slow=1)
        print(f'{n}: {time.time() - t:.0f} s', flush=True)
