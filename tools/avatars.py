"""Draw the bundled avatars anew: `python tools/avatars.py [OUT]`. Needs node and npm; the pictures need neither.

Each is a function of its style, its number, and the versions below. Drawn at four times its side, averaged down, with
64 colours, so that 3,000 fit into 3 MB."""
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from PIL import Image
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ('@dicebear/core@9.4.3', '@dicebear/collection@9.4.3', '@resvg/resvg-js@2.6.2')
PER_STYLE = 500
SIDE = 64
COLOURS = 64
# of zip entries, so that the same pictures make the same file
TIME = (2026, 1, 1, 0, 0, 0)

CREDITS = """3,000 avatars, 64 × 64 pixels, drawn by DiceBear 9.4.3 (https://www.dicebear.com, code: MIT License), one folder per style.
They were reduced in size and colours.

bigEars    Face Generator by The Visual Team (https://thevisual.team), CC BY 4.0
lorelei    Lorelei by Lisa Wischofsky (https://www.instagram.com/lischi_art), CC0 1.0
micah      Avatar Illustration System by Micah Lanier (https://dribbble.com/micahlanier), CC BY 4.0
personas   Personas by Draftbit (https://personas.draftbit.com), CC BY 4.0
pixelArt   Pixel Art by DiceBear (https://www.dicebear.com), CC0 1.0
toonHead   ToonHead by Johan Melin (https://www.johanmelin.com), CC BY 4.0

CC BY 4.0: https://creativecommons.org/licenses/by/4.0/ · CC0 1.0: https://creativecommons.org/publicdomain/zero/1.0/
"""

def drawn(folder:Path):
    "All avatars as large PNG files, by npm's packages"
    shutil.copy(ROOT/'tools'/'avatars.mjs', folder)
    (folder/'package.json').write_text('{"private": true}')
    subprocess.run(['npm', 'install', '--no-audit', '--no-fund', *PACKAGES], cwd=folder, check=True)
    subprocess.run(['node', 'avatars.mjs', 'large', str(PER_STYLE), str(4*SIDE)], cwd=folder, check=True)
    return sorted((folder/'large').glob('*/*.png'))

def small(path:Path)->bytes:
    "WebP, lossless, of the picture at its final side in few colours"
    picture = Image.open(path).convert('RGB').resize((SIDE, SIDE), Image.Resampling.BOX)
    few = picture.quantize(COLOURS, dither=Image.Dither.NONE).convert('RGB')
    file = io.BytesIO()
    few.save(file, 'WEBP', lossless=True, quality=100, method=6)
    return file.getvalue()

def main(out):
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(out, 'w') as archive:
        archive.writestr(zipfile.ZipInfo('CREDITS.txt', TIME), CREDITS)
        for path in tqdm(drawn(Path(folder))):
            name = f'{path.parent.name}/{path.stem}.webp'
            archive.writestr(zipfile.ZipInfo(name, TIME), small(path))
    print(f'{out}: {Path(out).stat().st_size/1e6:.2f} MB')

if __name__ == '__main__':
    main(sys.argv[1] if len(sys.argv) > 1 else ROOT/'data'/'avatars.zip')
