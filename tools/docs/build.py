"""The notebooks as a static site, with a page for each module and search: `make docs` → _docs/index.html

    python tools/docs/build.py                 notebooks as they were committed; a link that leads nowhere is an error
    python tools/docs/build.py --external      also asks other machines whether links to them are alive
"""
import ast, re, shutil, subprocess, sys, tempfile, textwrap
from collections import Counter
from pathlib import Path
from execnb.nbio import read_nb, write_nb
from fastcore.script import call_parse

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# *.md of the repository that are pages, too
PAPERS = dict(CONTRIBUTING='Contributing', CHANGELOG='Changes', SECURITY='What is trusted', MODEL_CARD='Model card')
GROUPS = {'Read': '0', 'Where the detail is': '1', 'Stage 1': '2', 'Diffusion': '3', 'Stage 2': '4',
          'Training': '5', 'Use': '6', 'Measured': '7', 'Walk': '[89]'}

def header(node, lines)->str:
    "A definition up to its body, with the notes on its parameters"
    first = node.body[0]
    own = lines[node.lineno - 1:first.lineno - 1] or [lines[node.lineno - 1][:first.col_offset]]
    return '\n'.join(l[node.col_offset:] for l in own).rstrip()

def members(path:Path)->list: # (name, label of its section, docstring, code)
    "What a module exports, in the order in which it is defined. Labels know no capitals, so `DVAE` and `dvae` need two"
    text = path.read_text()
    lines,tree = text.split('\n'),ast.parse(text)
    out = []
    names = next(ast.literal_eval(n.value)
                 for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == '__all__')
    def put(name, doc, code):
        out.append((name, f'{path.stem}.{name}' + '-lower'*any(name.lower() == o[0].lower() for o in out), doc,
                    code))
    def add(n, of=''):
        notes = [d for d in map(ast.unparse, n.decorator_list) if not d.startswith('patch')]
        code = '\n'.join([f'@{d}' for d in notes] + [header(n, lines)])
        if isinstance(n, ast.ClassDef):
            fields = [lines[f.lineno - 1][n.col_offset:] for f in n.body if isinstance(f, ast.AnnAssign)]
            made = [textwrap.indent(header(m, lines), '    ') for m in n.body if getattr(m, 'name', '') == '__init__']
            code = '\n'.join([code, *fields, *made])
        put(of + n.name, ast.get_docstring(n) or '', code)
        for m in n.body if isinstance(n, ast.ClassDef) else ():
            (isinstance(m, ast.FunctionDef) and not m.name.startswith('_') and ast.get_docstring(m) and
             add(m, f'{n.name}.'))
    for n in tree.body:
        if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name in names:
            add(n)
        elif (isinstance(n, ast.FunctionDef) and not n.name.startswith('_') and ast.get_docstring(n) and
              any(ast.unparse(d).startswith('patch') for d in n.decorator_list)):       # a method, added to its class
            add(n, f'{ast.unparse(n.args.args[0].annotation)}.')
        elif isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name) and n.targets[0].id in names:
            put(n.targets[0].id, '', '\n'.join(lines[n.lineno - 1:n.end_lineno]))
    return out

def api_page(path:Path)->str:
    "A module: what each name takes, gives and is for, from its notes in the source"
    doc = ast.get_docstring(ast.parse(path.read_text()))
    nb = re.search(r'File to edit: (?:\.\./)+nbs/(\S+)\.ipynb', path.read_text())[1]
    parts = [f'# {path.stem}', doc, f'Defined, explained and tested in [{nb}](../{nb}.ipynb).']
    for name,label,doc,code in members(path):
        parts += [f'({label})=', f'{"###" if "." in name else "##"} `{name}`', doc.replace('*', r'\*'),
                  f'```python\n{code}\n```']
    return '\n\n'.join(filter(None, parts)) + '\n'

def linked(text:str, names:set, known:dict, here:str='')->str:
    "Notebooks and exported names in backticks become links to their pages, not in code or headings"
    def one(m):
        w = m[1]
        at = w.split('(')[0]
        if w in names and w != here:
            return f'[`{w}`]({w}.ipynb)'
        return f'[`{w}`](#{known[at]})' if at in known else m[0]
    return '\n'.join(l if l.startswith(('#', '    ', '```')) else
                     re.sub(r'(?<!\[)`([\w.]+(?:\([^`]*\))?)`(?!\])', one, l)
                     for l in text.split('\n'))

def only_imports(source:str)->bool:
    "Does a cell do nothing else?"
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return False
    return bool(body) and all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in body)

def sources(out:Path):
    "Everything that Sphinx reads"
    nbs = sorted((ROOT/'nbs').glob('*.ipynb'))
    names = {f.stem for f in nbs}
    modules = sorted(p for p in (ROOT/'d2it_nb').rglob('*.py') if not p.name.startswith('_'))
    shutil.copytree(HERE, out, ignore=shutil.ignore_patterns('build.py', '__pycache__'))
    shutil.copytree(ROOT/'nbs'/'figures', out/'figures')
    (out/'api').mkdir()
    names_of = [m[:2] for p in modules for m in members(p)]
    count = Counter(n for n,_ in names_of)
    known = {n: label for n,label in names_of if count[n] == 1 and len(n) > 2}
    for p in modules:
        (out/'api'/f'{p.stem}.md').write_text(api_page(p))
    listed = [p for p in PAPERS if (ROOT/f'{p}.md').is_file() or (ROOT/'data'/f'{p}.md').is_file()]
    for p in listed:
        shutil.copy(next(f for f in (ROOT/f'{p}.md', ROOT/'data'/f'{p}.md') if f.is_file()), out/f'{p}.md')
    (out/'tests').mkdir()
    shutil.copy(ROOT/'tests'/'README.md', out/'tests'/'README.md')
    (out/'api'/'index.md').write_text('# Modules\nWhat each exported name takes and gives.\n\n' +
                                      '\n'.join(['```{toctree}', ':maxdepth: 1', '', *(p.stem for p in modules),
                                                 '```', '']))
    def tree(caption, pages):
        return '\n'.join(['```{toctree}', ':hidden:', f':caption: {caption}', '', *pages, '```'])
    for f in nbs:
        nb = read_nb(f)
        before = None   # a cell of imports, which those right below it join
        for c in nb.cells:
            if c.cell_type == 'code':
                c.source = re.sub(r'^#\|.*\n?', '', c.source, flags=re.M)
                if only_imports(c.source):
                    c.metadata['tags'] = ['hide-input']
                    if before:
                        before.source += '\n' + c.source
                        c.source = ''
                    before = before or c
                elif c.source.strip():
                    before = None
            elif c.cell_type == 'markdown':
                before = None
                c.source = re.sub(r'\]\(\.\./(data/)?', '](', linked(c.source, names, known, f.stem))
        nb.cells = [c for c in nb.cells if c.source.strip() and c.cell_type != 'raw']
        nb.metadata['kernelspec'] = dict(name='python3', display_name='Python 3', language='python')
        if f.stem == 'index':
            front = dict(re.findall(r'^(\w+): *(.+)$', read_nb(f).cells[0].source, re.M))
            nb.cells[0].source = f'# {front["title"]}\n> {front["description"]}\n\n' + nb.cells[0].source
            nb.cells[-1].source += '\n\n' + '\n\n'.join(
                [*(tree(k, [n for n in sorted(names) if re.match(v, n)]) for k,v in GROUPS.items()),
                 tree('Look up', ['api/index', *(f'{v} <{k}>' for k,v in PAPERS.items() if k in listed),
                                  'What the check runs <tests/README>'])])
        write_nb(nb, out/f.name)

@call_parse
def main(out:str='_docs', # folder of the site
         external:bool=False, # also ask other machines whether links to them are alive
        ):
    "Build the site; anything that Sphinx complains of is an error"
    with tempfile.TemporaryDirectory() as d:
        src = Path(d)/'src'
        sources(src)
        def build(kind, to, *more):
            return subprocess.run([sys.executable, '-m', 'sphinx', '-q', '-n', '-W',
                                                                '--keep-going', '-j', 'auto', '-b', kind,
                                                                '-d', f'{d}/trees', *more, str(src), str(to)]).returncode
        if build('html', Path(d)/'html') or external and build('linkcheck', Path(d)/'links'):
            raise SystemExit('the site has faults, see above')
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(Path(d)/'html', out)
    print(f'{len(list(Path(out).rglob("*.html")))} pages: {out}/index.html')
