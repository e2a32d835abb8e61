("Run notebooks top to bottom in a fresh kernel each and keep their outputs: "
 "all of them, or those whose names are given.")
import sys, time
from pathlib import Path
import nbformat
from nbclient import NotebookClient

if __name__ == '__main__':
    if odd := set(sys.argv[1:]) - {p.stem for p in Path('nbs').glob('*.ipynb')}:
        sys.exit(f'no notebook {", ".join(sorted(odd))}')
    for p in sorted(Path('nbs').glob('*.ipynb')):
        if sys.argv[1:] and p.stem not in sys.argv[1:]:
            continue
        t,nb = time.time(),nbformat.read(p, 4)
        NotebookClient(nb, timeout=900, kernel_name='python3', resources=dict(metadata=dict(path='nbs'))).execute()
        nbformat.write(nb, p)
        print(f'{p.stem}: {time.time() - t:.0f} s, {p.stat().st_size//1000} kB', flush=True)
