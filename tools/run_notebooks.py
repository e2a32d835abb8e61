("Run notebooks top to bottom in a fresh kernel each and keep their outputs: "
 "all of them, or those whose names are given. Where that would be too large, pictures get 256 colours.")
import base64, io, os, sys, time
from pathlib import Path
import nbformat
from nbclient import NotebookClient
from PIL import Image

os.environ.pop('MPLBACKEND', None)      # with another one than the notebooks' own, pictures would be lost

LARGEST = 700_000      # bytes of a notebook

def fewer_colours(png:str, # base64
                 )->str:
    "The same picture with a palette, if that is smaller"
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    file = io.BytesIO()
    few = picture.convert('RGB').quantize(256, dither=Image.Dither.NONE)
    few.save(file, 'PNG', optimize=True)
    small = base64.b64encode(file.getvalue()).decode()
    return small if len(small) < len(png) else png

def slim(nb):
    "All pictures of a notebook that has been run"
    for cell in nb.cells:
        for output in cell.get('outputs', ()):
            data = output.get('data', {})
            if 'image/png' in data:
                data['image/png'] = fewer_colours(data['image/png'])

if __name__ == '__main__':
    if odd := set(sys.argv[1:]) - {p.stem for p in Path('nbs').glob('*.ipynb')}:
        sys.exit(f'no notebook {", ".join(sorted(odd))}')
    for p in sorted(Path('nbs').glob('*.ipynb')):
        if sys.argv[1:] and p.stem not in sys.argv[1:]:
            continue
        t,nb = time.time(),nbformat.read(p, 4)
        NotebookClient(nb, timeout=900, kernel_name='python3', resources=dict(metadata=dict(path='nbs'))).execute()
        nb.metadata.pop('widgets', None)
        nbformat.write(nb, p)
        if p.stat().st_size > LARGEST:
            slim(nb)
            nbformat.write(nb, p)
        print(f'{p.stem}: {time.time() - t:.0f} s, {p.stat().st_size//1000} kB', flush=True)
