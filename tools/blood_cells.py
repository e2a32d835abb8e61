"""Photographs of single blood cells as a folder of classes, 128 × 128 pixels: what the networks that ship are trained on.

    python tools/blood_cells.py PBC_dataset_normal_DIB.zip cells128

The archive is that of A. Acevedo et al., A dataset of microscopic peripheral blood cell images for development of
automatic recognition systems, Data in Brief 30 (2020) 105474: Mendeley Data, doi 10.17632/snkd93bnjr.1 (CC BY 4.0).
Download it there. Nine tenths of its pictures are taken, chosen by the hash of their names; `sha256.txt` lists them.
"""
import hashlib, io, zipfile
from pathlib import Path, PurePosixPath
from fastcore.script import bool_arg, call_parse
from PIL import Image
from d2it_nb.core import exit_with_message, write_atomic
from d2it_nb.viz import progress_bar

PART = 200/360                  # of a picture's side: the cell in the middle, and some of its neighbours
SIDE = 128                      # pixels
RENAMED = dict(ig='immature_granulocyte')
COUNTS = dict(basophil=1093, eosinophil=2834, erythroblast=1388, immature_granulocyte=2592,
              lymphocyte=1080, monocyte=1279, neutrophil=2992, platelet=2129)
NAMES = '330bb18a0e934ee3'      # how the SHA-256 of all names begins, one a line, in order

def taken(name:str # class/picture.jpg
         )->bool:
    "Nine tenths of all names, the same everywhere"
    return hashlib.sha1(name.encode()).digest()[0] >= 26

def new_name(path:str # in the archive
            )->str: # class/picture.jpg
    kind,file = ('', *PurePosixPath(path).parts)[-2:]
    return f'{RENAMED.get(kind, kind)}/{file}'

def cut(data:bytes)->bytes:
    "The middle of a picture, smaller, as JPEG"
    with Image.open(io.BytesIO(data)) as picture:
        w,h = picture.size
        side = round(PART*min(w, h))
        left,top = (w - side)//2, (h - side)//2
        small = picture.convert('RGB').crop((left, top, left + side, top + side))
        small = small.resize((SIDE, SIDE), Image.LANCZOS)
    file = io.BytesIO()
    small.save(file, 'JPEG', quality=90, subsampling=0)
    return file.getvalue()

def check(names):
    "`ValueError` if these are not the names that are expected"
    counts = {kind: sum(name.startswith(f'{kind}/') for name in names) for kind in COUNTS}
    found = hashlib.sha256('\n'.join(sorted(names)).encode()).hexdigest()
    if counts != COUNTS or not found.startswith(NAMES):
        raise ValueError(f'these are {len(names):,} pictures ({counts}), not the {sum(COUNTS.values()):,} '
                         f'that were expected ({COUNTS}): is the archive whole, and of version 1?')

@call_parse
def main(archive:str, # the .zip
         out:str, # folder to be made; what is there already is kept
         strict:bool_arg=True, # refuse an archive with other names
        ):
    "Cut all pictures; stopped and started again, it goes on"
    with exit_with_message('blood_cells'):
        with zipfile.ZipFile(archive) as z:
            paths = {new_name(path): path for path in z.namelist()
                     if path.lower().endswith('.jpg') and not PurePosixPath(path).name.startswith('.')}
            names = sorted(name for name in paths if taken(name))
            if strict:
                check(names)
            listed = []
            for name in progress_bar(names, 'cutting'):
                file = Path(out)/name
                if not file.is_file():
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_atomic(file, cut(z.read(paths[name])))
                listed.append(f'{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}')
        (Path(out)/'sha256.txt').write_text('\n'.join(listed) + '\n')
        print(f'{len(names):,} pictures in {out}')
