"""Does the code breathe? `python tools/style.py [NOTEBOOK …]` tells where a notebook breaks the rules of CONTRIBUTING.md"""
import ast
import io
import json
import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = 100
CELL = 40               # lines of an exported cell, more or less
SEEN = (ast.expr, ast.stmt, ast.arg, ast.keyword, ast.comprehension, ast.alias)
COMPREHENSION = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

def nodes(source:str)->int:
    "Syntax nodes: how much code there is, however it is laid out"
    return sum(isinstance(node, SEEN) for node in ast.walk(ast.parse(source)))

def code_lines(source:str)->int:
    "Lines that hold code: neither comments nor docstrings"
    blank = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    found = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in blank:
            found |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        scope = isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))
        if scope and ast.get_docstring(node, clean=False) is not None:
            found -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(found)

def crowded(source:str)->set: # of line numbers
    "Lines on which two or more statements begin"
    begun = [node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    return {line for line in begun if begun.count(line) > 1}

def packed(tree)->set:
    "Assignments of more than two values to more than two names"
    return {node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Tuple) and len(node.value.elts) > 2
            and isinstance(node.targets[0], ast.Tuple)}

def named_lambdas(tree)->set:
    "A function with a name is a `def`"
    return {node.lineno for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)}

def depth(node, inside:int=0)->int:
    "How deep comprehensions are nested"
    here = inside + isinstance(node, COMPREHENSION)
    return max([here, *(depth(child, here) for child in ast.iter_child_nodes(node))])

def deep(tree)->set:
    "Statements with comprehensions in comprehensions in comprehensions"
    return {node.lineno for node in ast.walk(tree) if isinstance(node, COMPREHENSION) and depth(node) > 2}

def assigned(source:str)->list:
    "Every name that is assigned to"
    return [node.id for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]

def definitions(source:str)->list:
    "Functions and classes of a cell, without those that begin with an underscore"
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node.name for node in ast.parse(source).body if isinstance(node, kinds) and node.name[0] != '_']

def is_exported(source:str)->bool:
    return bool(re.search(r'^#\|\s*exporti?\b', source, flags=re.M))

class Notebook:
    "The code of a notebook: what becomes its module, and its lessons"
    def __init__(self, path):
        cells = [''.join(c['source']) for c in json.loads(Path(path).read_text())['cells'] if c['cell_type'] == 'code']
        cells = [re.sub(r'^[%!]', '# ', cell, flags=re.M) for cell in cells]
        self.name = Path(path).stem
        self.exported = [cell for cell in cells if is_exported(cell)]
        self.lessons = [cell for cell in cells if not is_exported(cell)]

    def faults(self)->list: # of sentences
        "Where it breaks the rules, with the line in its cell"
        found = []
        for cell in self.exported + self.lessons:
            tree = ast.parse(cell)
            lines = cell.splitlines()
            wide = {i + 1 for i, line in enumerate(lines) if len(line) > COLUMNS}
            for rule, where in {f'over {COLUMNS} columns': wide,
                                'several statements on a line': crowded(cell),
                                'more than two names packed': packed(tree),
                                'a lambda with a name': named_lambdas(tree),
                                'comprehensions nested deeper than two': deep(tree)}.items():
                found += [f'{self.name}: {rule}: {lines[n - 1].strip()[:70]}' for n in sorted(where)]
        return found

    def long_cells(self)->list: # of [lines, first line]
        "Exported cells with more lines than one looks at"
        return [(len(cell.splitlines()), cell.splitlines()[1][:60]) for cell in self.exported
                if len(cell.splitlines()) > CELL]

    def unshown(self)->list: # of names
        "What is exported and never named in a lesson"
        taught = ' '.join(self.lessons)
        return [name for cell in self.exported for name in definitions(cell)
                if not re.search(rf'\b{name}\b', taught)]

    def figures(self)->dict:
        "How much code there is, and how it is laid out"
        source = '\n'.join(self.exported)
        names = assigned(source)
        return dict(notebook=self.name, nodes=nodes(source), lines=code_lines(source),
                    one_letter=sum(len(name) == 1 for name in names), assigned=len(names))

def main(paths:list):
    paths = paths or sorted((ROOT/'nbs').glob('*.ipynb'))
    rows = []
    for path in paths:
        book = Notebook(path)
        row = book.figures()
        rows.append(row)
        print(f'{book.name:<24} {row["nodes"]:6,} nodes, {row["lines"]:5} lines, '
              f'{row["nodes"]/max(row["lines"], 1):5.2f} a line; '
              f'{row["one_letter"]/max(row["assigned"], 1):4.0%} of names have one letter')
        for fault in book.faults():
            print('   ', fault)
        for lines, first in book.long_cells():
            print(f'    an exported cell of {lines} lines: {first}')
        if book.unshown():
            print('    in no lesson:', ', '.join(book.unshown()))
    total = {key: sum(row[key] for row in rows) for key in ('nodes', 'lines', 'one_letter', 'assigned')}
    print(f'{total["nodes"]:,} nodes, {total["lines"]:,} lines, {total["nodes"]/total["lines"]:.2f} a line, '
          f'{total["one_letter"]/total["assigned"]:.0%} one-letter names')

if __name__ == '__main__':
    main(sys.argv[1:])
