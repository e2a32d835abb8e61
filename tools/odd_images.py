"""Picture files as they are found in the wild, each with the pixels that a faithful reader sees: odd ones, damaged ones, forged ones.

The truth never comes from the decoder under test: PNG, PNM, BMP and colour profiles are written here byte by byte, TIFF by tifffile,
the lossy formats by Pillow from pixels that are known, with the tolerance of the format."""
import io, os, random, socket, struct, zlib
import numpy as np, tifffile
from PIL import Image, ImageCms

H,W = 48,64
FORMATS = 'png jpg webp gif bmp tif ppm'.split()

def art(seed=0, h=H, w=W): # (h,w,3) uint8
    "A slope with blocks on it: nothing that a lossy format could not keep, and no two corners alike"
    rng = np.random.default_rng(seed)
    y,x = np.mgrid[:h, :w]
    a = np.stack([60 + 150*x/w, 50 + 140*y/h, 200 - 120*(x + y)/(h + w)], -1) + 0.
    for _ in range(3):
        r,c = rng.integers(0, h//2),rng.integers(0, w//2)
        a[r:r + h//3, c:c + w//4] = rng.integers(30, 225, 3)
    return a.round().astype(np.uint8)

def grey(a):
    return a[..., 1]
def rgb(g):
    return np.stack([g]*3, -1)
def on_white(c, alpha):
    return (c*(alpha[..., None]/255.) + 255*(1 - alpha[..., None]/255.)).round().astype(np.uint8)
def slope_alpha(h=H, w=W):
    return np.broadcast_to(np.linspace(0, 255, w).round().astype(np.uint8), (h, w))

def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
def png(a, depth=8, colour=2, interlaced=False, before=b'', size=None): # (h,w,channels) samples
    "A PNG of any colour type and depth, straight or in Adam7's seven passes"
    h,w,_ = a.shape
    def lines(a):
        if not a.size:
            return b''
        if depth == 16:
            rows = [r.astype('>u2').tobytes() for r in a]
        elif depth == 8:
            rows = [r.astype(np.uint8).tobytes() for r in a]
        else:
            rows = [np.packbits(np.unpackbits(r.astype(np.uint8).reshape(-1, 1), axis=1)[:, -depth:].ravel()).tobytes()
                    for r in a]
        return b''.join(b'\0' + r for r in rows)
    passes = ([(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
              if interlaced else [(0, 0, 1, 1)])
    body = b''.join(lines(a[y::dy, x::dx]) for y,x,dy,dx in passes)
    sw,sh = size or (w, h)
    return (b'\x89PNG\r\n\x1a\n' +
            chunk(b'IHDR', struct.pack('>IIBBBBB', sw, sh, depth, colour, 0, 0, interlaced)) + before +
            chunk(b'IDAT', zlib.compress(body)) + chunk(b'IEND', b''))

def bmp(a, top_down=False, size=None):
    "24 bits a pixel, from the bottom up or from the top down"
    h,w,_ = a.shape
    pad = -3*w % 4
    rows = [r[:, ::-1].tobytes() + bytes(pad) for r in (a if top_down else a[::-1])]
    sw,sh = size or (w, h)
    return (b'BM' + struct.pack('<IHHI', 54 + len(rows)*(3*w + pad), 0, 0, 54) +
            struct.pack('<IiiHHIIiiII', 40, sw, -sh if top_down else sh, 1, 24, 0, 0, 0, 0, 0, 0) +
            b''.join(rows))

def pnm(a, kind, top=255):
    h,w = a.shape[:2]
    head = f'P{kind}\n# a comment\n{w} {h}\n' + ('' if kind in (1, 4) else f'{top}\n')
    if kind in (1, 2, 3):
        return (head + ' '.join(map(str, a.ravel().tolist())) + '\n').encode()
    return head.encode() + (np.packbits(a.astype(bool), axis=1) if kind == 4 else
                            a.astype('>u2' if top > 255 else np.uint8)).tobytes()

def cmyk_profile(seed=0):
    ("An ICC profile of a printer that does not exist: "
     "Lab of the 16 mixtures of full inks, most of them drawn at random. Returns its bytes, and the 16 colours as sRGB")
    rng = np.random.default_rng(seed)
    srgb = rng.integers(20, 236, (16, 3)).astype(np.uint8)
    srgb[0],srgb[15] = 255,0      # paper is white, all inks are black
    to_lab = ImageCms.buildTransform(ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB'), 'RGB', 'LAB')
    lab = np.asarray(ImageCms.applyTransform(Image.fromarray(srgb[None]), to_lab)
                    ).reshape(16, 3).astype(np.uint8).copy()
    lab = np.stack([lab[:, 0], *(lab[:, 1:].astype(np.int8).astype(int) + 128).T], 1).astype(np.uint8)
    ramp = bytes(range(256))
    lut = (b'mft1' + bytes(4) + bytes([4, 3, 2, 0]) +
           struct.pack('>9i', *(65536*v for v in (1, 0, 0, 0, 1, 0, 0, 0, 1))) + 4*ramp + lab.tobytes() + 3*ramp)
    lut += bytes(-len(lut) % 4)
    white = b'XYZ ' + bytes(4) + struct.pack('>3i', 63190, 65536, 54061)
    text = b'text' + bytes(4) + b'none\0'
    text += bytes(-len(text) % 4)
    desc = b'desc' + bytes(4) + struct.pack('>I', 5) + b'none\0' + bytes(78)
    desc += bytes(-len(desc) % 4)
    tags = ((b'A2B0', lut), (b'wtpt', white), (b'cprt', text), (b'desc', desc))
    at = 128 + 4 + 12*4
    table = b''
    body = b''
    for name,data in tags:
        table += name + struct.pack('>II', at + len(body), len(data))
        body += data
    head = (struct.pack('>I4sI4s4s4s', at + len(body), b'lcms', 0x02400000, b'prtr', b'CMYK', b'Lab ') +
            struct.pack('>6H', 2026, 1, 1, 0, 0, 0) + b'acsp' + bytes(28) +
            struct.pack('>3i', 63190, 65536, 54061) + bytes(48))
    return head + struct.pack('>I', 4) + table + body, srgb

def saved(im, fmt, **kw):
    b = io.BytesIO()
    im.save(b, fmt, **kw)
    return b.getvalue()
def tiff(a, **kw):
    b = io.BytesIO()
    tifffile.imwrite(b, a, **kw)
    return b.getvalue()
def packed_tiff(levels, bits): # of one channel, as many bits a pixel
    h,w = levels.shape
    all_bits = np.unpackbits(levels.astype('>u2').view(np.uint8).reshape(h, w, 2), axis=2)
    body = np.packbits(all_bits[..., 16 - bits:].reshape(h, -1), axis=1).tobytes()
    tags = (256, w), (257, h), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, h), (279, len(body))
    rows = b''.join(struct.pack('<HHII', t, 4, 1, v) for t,v in tags)
    return b'II*\0' + struct.pack('<I', 8 + len(body)) + body + struct.pack('<H', len(tags)) + rows + bytes(4)
def exif(n):
    e = Image.Exif()
    e[0x0112] = n
    return e
def turned(a, n): # as it must look, for EXIF orientation n
    return [a, a[:, ::-1], a[::-1, ::-1], a[::-1], a.transpose(1, 0, 2), a[::-1].transpose(1, 0, 2),
            a[::-1, ::-1].transpose(1, 0, 2), a[:, ::-1].transpose(1, 0, 2)][n - 1]

def good():
    "name → (bytes, pixels, tolerance): what has to be read, and as what"
    a = art()
    g = grey(a)
    al = slope_alpha()
    out = {}
    pil = Image.fromarray(a)
    L = Image.fromarray(g)
    def add(name, data, want, tol=0):
        out[name] = data,want,tol
    for lace in (False, True):
        i = '-interlaced' if lace else ''
        for d in (1, 2, 4, 8, 16): # grey of all depths
            s = (g.astype(float)/255*(2**d - 1)).round().astype(int)
            add(f'grey{d}{i}.png', png(s[..., None], d, 0, lace),
                rgb((s*255/(2**d - 1)).round().astype(np.uint8)), d == 16)
        for d in (8, 16):
            f = 257 if d == 16 else 1
            A = a.astype(int)*f
            T = al.astype(int)[..., None]*f
            add(f'rgb{d}{i}.png', png(A, d, 2, lace), a, d == 16)
            add(f'rgba{d}{i}.png', png(np.concatenate([A, T], -1), d, 6, lace), on_white(a, al), 1)
            add(f'la{d}{i}.png', png(np.concatenate([A[..., 1:2], T], -1), d, 4, lace), on_white(rgb(g), al), 1)
        for d in (1, 2, 4, 8):
            n = 2**d
            pal = np.random.default_rng(d).integers(0, 256, (n, 3)).astype(np.uint8)
            idx = (g.astype(int)*n//256)
            add(f'palette{d}{i}.png', png(idx[..., None], d, 3, lace, chunk(b'PLTE', pal.tobytes())), pal[idx])
            ta = np.linspace(0, 255, n).astype(np.uint8)
            add(f'palette{d}-alpha{i}.png',
                png(idx[..., None], d, 3, lace, chunk(b'PLTE', pal.tobytes()) + chunk(b'tRNS', ta.tobytes())),
                on_white(pal[idx], ta[idx]), 1)
    key = int(g[5, 5])
    add('grey8-key.png', png(g[..., None], 8, 0, before=chunk(b'tRNS', struct.pack('>H', key))),
        np.where((g == key)[..., None], 255, rgb(g)))
    add('grey16-key.png',
        png(g[..., None].astype(int)*257, 16, 0, before=chunk(b'tRNS', struct.pack('>H', key*257))),
        np.where((g == key)[..., None], 255, rgb(g)), 1)
    for d in (2, 4):
        few = (g.astype(int) >> 8 - d)
        key = int(few[5, 5])
        add(f'grey{d}-key.png', png(few[..., None], d, 0, before=chunk(b'tRNS', struct.pack('>H', key))),
            np.where((few == key)[..., None], 255, rgb((few*255//(2**d - 1)).astype(np.uint8))))
    key = a[3, 3].astype(int)
    add('rgb8-key.png', png(a, 8, 2, before=chunk(b'tRNS', struct.pack('>3H', *key))),
        np.where((a == key).all(-1)[..., None], 255, a))
    bit = (g > 120).astype(int)
    add('bit-key.png', png(bit[..., None], 1, 0, before=chunk(b'tRNS', struct.pack('>H', 0))), np.full_like(a, 255))
    for n in range(1, 9):
        add(f'exif{n}.jpg', saved(pil, 'JPEG', quality=97, subsampling=0, exif=exif(n)), turned(a, n), 14)
        add(f'exif{n}.png', saved(pil, 'PNG', exif=exif(n)), turned(a, n))
        add(f'exif{n}.webp', saved(pil, 'WEBP', lossless=True, exif=exif(n)), turned(a, n))
    add('exif0.jpg', saved(pil, 'JPEG', quality=97, subsampling=0, exif=exif(0)), a, 14)
    add('exif99.jpg', saved(pil, 'JPEG', quality=97, subsampling=0, exif=exif(99)), a, 14)
    add('plain.jpg', saved(pil, 'JPEG', quality=97, subsampling=0), a, 14)
    add('progressive.jpg', saved(pil, 'JPEG', quality=97, subsampling=0, progressive=True), a, 14)
    add('grey.jpg', saved(L, 'JPEG', quality=97), rgb(g), 14)
    add('jpeg-by-another-name.png', out['plain.jpg'][0], a, 14)
    add('png-by-another-name.jpg', out['rgb8.png'][0], a)
    inks = np.random.default_rng(1).integers(0, 256, (4, 4, 4)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
    cmyk = Image.fromarray(inks, 'CMYK')
    c = inks.astype(float)
    plain = ((255 - c[..., :3])*(255 - c[..., 3:])/255).round().astype(np.uint8)
    add('cmyk.jpg', saved(cmyk, 'JPEG', quality=100, subsampling=0), plain, 8)
    add('cmyk.tif', saved(cmyk, 'TIFF'), plain, 1)
    icc,colours = cmyk_profile()
    full = (np.arange(16).reshape(4, 4)[..., None] >> np.array([3, 2, 1, 0]) & 1).astype(np.uint8)*255
    mix = colours[np.arange(16).reshape(4, 4)].repeat(16, 0).repeat(16, 1)
    printed = Image.fromarray(full.repeat(16, 0).repeat(16, 1), 'CMYK')
    add('cmyk-profile.jpg', saved(printed, 'JPEG', quality=100, subsampling=0, icc_profile=icc), mix, 12)
    add('cmyk-profile.tif', saved(printed, 'TIFF', icc_profile=icc), mix, 8)
    add('cmyk-broken-profile.tif', saved(cmyk, 'TIFF', icc_profile=b'no profile at all'), plain, 1)
    add('lossless.webp', saved(pil, 'WEBP', lossless=True), a)
    add('lossy.webp', saved(L, 'WEBP', quality=98), rgb(g), 14)
    add('alpha.webp', saved(Image.fromarray(np.dstack([a, al])), 'WEBP', lossless=True, exact=True),
        on_white(a, al), 1)
    others = [Image.fromarray(art(s)) for s in (1, 2)]
    quant = pil.quantize(255)
    qa = np.asarray(quant.convert('RGB'))
    add('animated.webp', saved(pil, 'WEBP', lossless=True, save_all=True, append_images=others), a)
    add('animated.png', saved(pil, 'PNG', save_all=True, append_images=others), a)
    add('animated.gif', saved(quant, 'GIF', save_all=True, append_images=[o.quantize(255) for o in others]), qa)
    add('plain.gif', saved(quant, 'GIF'), qa)
    add('grey.gif', saved(L, 'GIF'), rgb(g))
    hole = np.asarray(quant) == 7
    add('hole.gif', saved(quant, 'GIF', transparency=7), np.where(hole[..., None], 255, qa))
    add('up.bmp', bmp(a), a)
    add('down.bmp', bmp(a, True), a)
    add('grey.bmp', saved(L, 'BMP'), rgb(g))
    add('bit.bmp', saved(Image.fromarray(bit.astype(bool)), 'BMP'), rgb(bit.astype(np.uint8)*255))
    add('palette.bmp', saved(quant, 'BMP'), qa)
    pages = np.stack([a, art(1)])
    A16 = a.astype(np.uint16)*257
    g16 = g.astype(np.uint16)*257
    add('rgb.tif', tiff(a, photometric='rgb'), a)
    add('grey.tif', tiff(g), rgb(g))
    add('grey16.tif', tiff(g16), rgb(g))
    add('grey16-big.tif', tiff(g16, byteorder='>'), rgb(g))
    add('pages.tif', tiff(pages, photometric='rgb'), a)
    add('rgb16.tif', tiff(A16, photometric='rgb'), a, 1)
    add('rgba.tif', tiff(np.dstack([a, al]), photometric='rgb', extrasamples=['unassalpha']), on_white(a, al), 1)
    add('premultiplied.tif',
        tiff(np.dstack([(a*(al[..., None]/255.)).round().astype(np.uint8), al]), photometric='rgb',
             extrasamples=['assocalpha']), on_white(a, al), 3)
    add('grey12.tif', packed_tiff(g.astype(int)*4095//255, 12), rgb(g), 1)
    add('white-is-0-of-16.tif', tiff(65535 - g16, photometric='miniswhite'), rgb(g), 1)
    for name in ('without-suffix', 'plain.jfif', 'jpeg.dat'):
        add(name, out['plain.jpg'][0], a, 14)
    add('lossless.jp2', saved(pil, 'JPEG2000'), a)
    add('white-is-0.tif', tiff(255 - g, photometric='miniswhite'), rgb(g))
    add('tiled.tif', tiff(a, photometric='rgb', tile=(16, 16)), a)
    add('planes.tif', tiff(a.transpose(2, 0, 1), photometric='rgb', planarconfig='separate'), a)
    add('deflate.tif', tiff(a, photometric='rgb', compression='zlib'), a)
    for k in ('tiff_lzw', 'packbits', 'tiff_adobe_deflate'):
        add(f'{k}.tif', saved(pil, 'TIFF', compression=k), a)
    add('bit.tif', saved(Image.fromarray(bit.astype(bool)), 'TIFF', compression='group4'),
        rgb(bit.astype(np.uint8)*255))
    add('palette.tif', saved(quant, 'TIFF'), qa)
    add('turned.tif', saved(pil, 'TIFF', tiffinfo={274: 6}), turned(a, 6))
    for n,top in ((2, 15), (2, 255), (5, 15), (5, 255), (3, 100), (3, 255), (6, 100), (6, 255)):
        s = ((g if n in (2, 5) else a).astype(float)/255*top).round().astype(int)
        v = (s*255./top).round().astype(np.uint8)
        add(f'p{n}-{top}.{"pgm" if n in (2, 5) else "ppm"}', pnm(s, n, top), rgb(v) if n in (2, 5) else v,
            top != 255)
    add('p5-65535.pgm', pnm(g.astype(int)*257, 5, 65535), rgb(g), 1)
    add('p6-65535.ppm', pnm(a.astype(int)*257, 6, 65535), a, 1)
    add('p1.ppm', pnm(1 - bit, 1), rgb(bit.astype(np.uint8)*255))
    add('p4.ppm', pnm(1 - bit, 4), rgb(bit.astype(np.uint8)*255))
    for h,w in ((1, 1), (1, 2000), (2000, 1)):
        b = art(0, h, w) if min(h, w) > 8 else np.random.default_rng(0).integers(0, 256, (h, w, 3)).astype(np.uint8)
        add(f'{w}x{h}.png', png(b), b)
    return out

MAY = ('p6-65535.ppm',)          # may be refused, but not read wrongly

def bad(seed=0):
    "name → bytes: what has to be refused"
    rng = random.Random(seed)
    a = art()
    out = {'empty.png': b'',
           'text.jpg': b'hello',
           'page.jpg': b'<!doctype html><title>404</title>'*9,
           'zip.png': b'PK\3\4' + rng.randbytes(300)}
    head = dict(png=b'\x89PNG\r\n\x1a\n', jpg=b'\xff\xd8\xff\xe0', webp=b'RIFF\x40\0\0\0WEBPVP8 ', gif=b'GIF89a',
                bmp=b'BM', tif=b'II*\0', ppm=b'P6\n')
    for f,h in head.items():
        out[f'magic-only.{f}'] = h
        for i in range(6):
            out[f'magic-noise{i}.{f}'] = h + rng.randbytes(400)
    for i in range(10):
        out[f'noise{i}.{rng.choice(FORMATS)}'] = rng.randbytes(rng.randrange(1, 2000))
    whole = samples()
    jpg = bytearray(whole['jpg'])
    sof = jpg.index(b'\xff\xc0')
    jpg[sof + 5:sof + 9] = struct.pack('>HH', 65000, 65000)
    gif = bytearray(whole['gif'])
    gif[6:10] = struct.pack('<HH', 65535, 65535)
    web = (b'RIFF' + struct.pack('<I', 30) + b'WEBPVP8X' + struct.pack('<I', 10) + b'\0'*4 + b'\xff\x3f\0'*2 +
           bytes(8))
    out |= {'forged.png':       png(a, size=(60000, 60000)),
            'forged-wide.png':  png(a, size=(2**31 - 1, 1)),
            'forged.jpg':       bytes(jpg),
            'forged.gif':       bytes(gif),
            'forged.webp':      web,
            'forged.bmp':       bmp(a, size=(50000, 50000)),
            'forged.ppm':       b'P6\n99999 99999\n255\n' + bytes(300),
            'nothing.png':      png(a, size=(0, 10)),
            'nothing.ppm':      b'P6\n0 0\n255\n',
            'maxval0.ppm':      b'P6\n2 2\n0\n' + bytes(12),
            'maxval70000.ppm':  b'P6\n2 2\n70000\n' + bytes(24),
            'text-bomb.png':    png(a, before=chunk(b'zTXt', b'k\0\0' + zlib.compress(bytes(2**28)))),
            'profile-bomb.png': png(a, before=chunk(b'iCCP', b'k\0\0' + zlib.compress(bytes(2**28)))),
            'long-number.ppm':  b'P6\n' + b'9'*500 + b' 1\n255\n',
            'float.tif':        tiff(a.astype(np.float32)/255, photometric='rgb'),
            'float-grey.tif':   tiff(grey(a).astype(np.float32)),
            'int32.tif':        tiff(grey(a).astype(np.int32)),
            'signed8.tif':      tiff(grey(a).astype(np.int8)),
            'signed16.tif':     tiff(grey(a).astype(np.int16)),
            'rgb16-key.png':    png(a.astype(int)*257, 16, 2, before=chunk(b'tRNS', struct.pack('>3H', 1, 2, 3))),
            'double.tif':       tiff(grey(a).astype(np.float64))}
    return out

def samples(): # format → bytes: one whole file of each, to be damaged
    a = art()
    pil = Image.fromarray(a)
    return dict(png=png(a), jpg=saved(pil, 'JPEG', quality=97, subsampling=0),
                webp=saved(pil, 'WEBP', lossless=True), gif=saved(pil.quantize(255), 'GIF'), bmp=bmp(a),
                tif=tiff(a, photometric='rgb', compression='zlib'), ppm=pnm(a, 6))

def truncated(n, seed=0):
    "name → (bytes, format): each format cut off n times"
    rng = random.Random(f'cut {seed}')
    return {f'cut{i}.{f}': (d[:rng.randrange(1, len(d))], f) for f,d in samples().items() for i in range(n)}

def flipped(n, seed=0):
    "name → (bytes, format): a bit flipped, n times a format"
    rng = random.Random(f'flip {seed}')
    out = {}
    for f,d in samples().items():
        for i in range(n):
            b = bytearray(d)
            j = rng.randrange(8*len(b))
            b[j//8] ^= 1 << j % 8
            out[f'flip{i}.{f}'] = bytes(b),f
    return out

def things(folder):
    ("What is no file at all, or hard to name: makes it in `folder`; "
     "returns the names that are readable, and those that are not")
    a = png(art())
    (folder/'folder.png').mkdir()
    os.mkfifo(folder/'pipe.png')
    s = socket.socket(socket.AF_UNIX)
    s.bind(str(folder/'socket.png'))
    s.close()
    (folder/'nowhere.png').symlink_to(folder/'missing')
    (folder/'loop1.png').symlink_to('loop2.png')
    (folder/'loop2.png').symlink_to('loop1.png')
    (folder/'zero.png').symlink_to('/dev/zero')
    (folder/'around').symlink_to('.')
    names = ['Blüte 花 🌼.png', ' leading and trailing .png', 'new\nline.png', '-rf.png', "quote'\".png",
             '%s{0}$HOME.png', 'x'*240 + '.png', 'UPPER.PNG', 'two.dots.png', os.fsdecode(b'latin\xe9.png')]
    for n in names:
        (folder/n).write_bytes(a)
    (folder/'link.png').symlink_to('UPPER.PNG')
    return [*names, 'link.png'], ['pipe.png', 'socket.png', 'nowhere.png', 'loop1.png', 'loop2.png', 'zero.png']
