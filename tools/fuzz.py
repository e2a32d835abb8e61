"""What the kit does with files that nobody meant it to read.

    python tools/fuzz.py images --n 100        odd, damaged and forged pictures; damaged ones n times a format, cut and flipped
    python tools/fuzz.py files --n 1000        networks, checkpoints, caches, calibrations, maps, evaluations: n damages and n odd JSONs, in turn
    python tools/fuzz.py folders --n 100       folders of pictures as people and systems leave them
    python tools/fuzz.py inputs --n 1000       what may be given as a picture to the pipeline
    python tools/fuzz.py all                   all of them, into data/results/fuzz.json
"""
import base64, hashlib, io, json, random, resource, shutil, signal, struct, tempfile, time, warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
import numpy as np, tifffile
from fastcore.script import call_parse
from tqdm.auto import tqdm
import odd_images as odd
from d2it_nb.core import save_result
from d2it_nb.data import Guarded, ImageFolder, quarantined, read_image

def read_one(path, limit=20): # 'read', pixels or 'refused', why or 'crash', what or 'hang', ''; seconds
    class Late(BaseException):
        pass
    def ring(*_):
        raise Late
    signal.signal(signal.SIGALRM, ring)
    signal.alarm(limit)
    t = time.time()
    try:
        return 'read', np.asarray(read_image(path)), time.time() - t
    except ValueError as e:
        return 'refused', str(e), time.time() - t
    except Late:
        return 'hang', '', time.time() - t
    except BaseException as e:
        return 'crash', repr(e), time.time() - t
    finally:
        signal.alarm(0)

def peak_mb(_=None):
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024

def same_bytes(data, fmt):
    ("What another reader makes of the same bytes: PNM and BMP by hand, if the header is whole; TIFF by tifffile. "
     "None: no second opinion")
    head = odd.samples()[fmt]
    if fmt == 'ppm' and data[:len(head) - 3*odd.H*odd.W] == head[:-3*odd.H*odd.W]:
        return np.frombuffer(data[-3*odd.H*odd.W:], np.uint8).reshape(odd.H, odd.W, 3)
    if fmt == 'bmp' and data[:54] == head[:54]:
        return np.frombuffer(data[54:], np.uint8).reshape(odd.H, odd.W, 3)[::-1, :, ::-1]
    if fmt == 'tif':
        try:
            a = tifffile.imread(io.BytesIO(data))
            return a if a.shape == (odd.H, odd.W, 3) and a.dtype == np.uint8 else None
        except Exception:
            return None

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)

def browser_says(files): # [(name, bytes)] → pixels or None, as Chromium decodes them
    if not CHROMIUM:
        raise SystemExit('a second opinion needs Chromium (Debian: apt-get install chromium)')
    from playwright.sync_api import sync_playwright
    js = '''async d => { try {
        const b = Uint8Array.from(atob(d), c => c.charCodeAt(0)), m = await createImageBitmap(new Blob([b]), {colorSpaceConversion: 'none', premultiplyAlpha: 'none'});
        const c = new OffscreenCanvas(m.width, m.height), x = c.getContext('2d'); x.fillStyle = 'white'; x.fillRect(0, 0, m.width, m.height); x.drawImage(m, 0, 0);
        const p = x.getImageData(0, 0, m.width, m.height).data; let s = ''; for (let i = 0; i < p.length; i += 8192) s += String.fromCharCode(...p.subarray(i, i + 8192));
        return [m.width, m.height, btoa(s)]; } catch (e) { return null; } }'''
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        page = b.new_page()
        page.goto('about:blank')
        out = {}
        for name,data in tqdm(files, desc='second opinion'):
            r = page.evaluate(js, base64.b64encode(data).decode())
            out[name] = r and np.frombuffer(base64.b64decode(r[2]), np.uint8).reshape(r[1], r[0], 4)[..., :3]
        b.close()
    return out

def images(d, n, seed=0, browser=False):
    "Read every odd file; compare what is read with what is right, and look for what is refused on the lists"
    wild = d/'wild'
    shutil.rmtree(wild, ignore_errors=True)
    wild.mkdir(parents=True)
    good = odd.good()
    bad = odd.bad(seed)
    cut = odd.truncated(n, seed)
    flip = odd.flipped(n, seed)
    for name,data in [*((k, v[0]) for k,v in good.items()), *bad.items(),
                      *((k, v[0]) for k,v in (cut | flip).items())]:
        (wild/name).write_bytes(data)
    odd_names,nothing = odd.things(wild)
    whole = {f: np.asarray(read_image(b)) for f,b in odd.samples().items()}
    names = [*good, *bad, *cut, *flip, *odd_names, *nothing, 'folder.png']
    found = {}
    with ProcessPoolExecutor(2) as pool:
        try:
            found = dict(zip(names, tqdm(pool.map(read_one, [str(wild/k) for k in names], chunksize=8),
                                         total=len(names), desc='odd pictures')))
        except BrokenProcessPool:
            raise SystemExit('a reading process died') from None
        peak = max(pool.map(peak_mb, range(8)))
    second = (browser_says([(k, d_) for k,(d_,f) in flip.items()
                            if f in ('jpg', 'gif', 'webp') and found[k][0] == 'read'])
              if browser else {})
    wrong,alone = [],[]
    def judge(k, want, tol=0, must=True):
        how,got,_ = found[k]
        if how == 'refused':
            wrong.extend([(k, got)]*must)
        elif how == 'read' and (got.shape != want.shape or np.abs(got.astype(int) - want).max() > tol):
            wrong.append((k, f'off by {np.abs(got.astype(int) - want).max()}' if got.shape == want.shape else
                             f'{got.shape}, not {want.shape}'))
    for k,(_,want,tol) in good.items():
        judge(k, want, tol, k not in odd.MAY)
    for k in odd_names:
        judge(k, odd.art())
    for k in [*bad, *nothing, 'folder.png']:
        wrong += [(k, 'was read')]*(found[k][0] == 'read')
    for k,(_,f) in cut.items():
        judge(k, whole[f], 0, False)
    for k,(data,f) in flip.items():
        if found[k][0] != 'read':
            continue
        # PNG has checksums: a flip that is read must not be seen
        want = whole[f] if f == 'png' else second.get(k) if k in second else same_bytes(data, f)
        if want is None:
            alone.append(k)
        else:
            judge(k, want, 3 if f in ('jpg', 'webp') else 0, False)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        ds = Guarded(ImageFolder(wild, 8, max_bad=1., small='enlarge'), d/'quarantine.jsonl', max_bad=1.).start()
        for i in range(len(ds)):
            ds.image(i)
    listed = quarantined(ds.quarantine)
    refused = [k for k in names if found[k][0] == 'refused']
    unnamed = [k for k in refused if str(wild/k) not in listed or str(wild/k) not in found[k][1]]
    unread = [k for k in names
              if found[k][0] == 'read' and str(wild/k) in listed]
    def count(how):
        return sum(v[0] == how for v in found.values())
    return dict(what='pictures', files=len(names), read=count('read'), refused=count('refused'),
                crashes=count('crash'), hangs=count('hang'), wrong=wrong, without_second_opinion=len(alone),
                unnamed=unnamed + unread, slowest_s=max(v[2] for v in found.values()), peak_MB=peak)

def targets(d):
    "Every kind of file that the kit reads: name → (path, what reading it gives)"
    import torch
    from d2it_nb.checkpoint import load_checkpoint, save_checkpoint
    from d2it_nb.content_transformer import D2iT, d2it
    from d2it_nb.core import digest, load_net, save_net, sha256, write_atomic
    from d2it_nb.data import PhotoCrops
    from d2it_nb.dvae import DVAE, dvae
    from d2it_nb.painting import GrainMap
    from d2it_nb.evaluate import in_chunks, read_chunks, read_pictures
    from d2it_nb.extractors import read_weights
    from d2it_nb.grain_transformer import GrainTransformer, grain_net
    from d2it_nb.latents import build_latents
    from d2it_nb.calibration import load_calibration
    from d2it_nb.thresholds import calibrate
    from safetensors.torch import save_file
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    torch.manual_seed(0)
    ds = PhotoCrops(32, 12)
    vae = dvae('tiny', (4, 8), ch=8)
    cal = calibrate(ds, 8, progress=False)
    save_net(d/'dvae', vae, size=32)
    save_net(d/'content', d2it('tiny', 3, grid=(4, 4), d=32), note='x')
    save_net(d/'grain', grain_net('tiny', grid=(4, 4), num_classes=3, d=32))
    write_atomic(d/'cal.json', cal.to_json().encode())
    build_latents(d/'lat', ds, vae, cal, progress=False)
    save_checkpoint(d/'c', 3, dict(net=vae.state_dict()), dict(config=dict(lr=1.)))
    (d/'map.json').write_text(GrainMap((4, 4), 2).to_json())
    fs = in_chunks(4, 2, d/'e',
                   lambda r: dict(x=np.full((len(r), 8, 8, 3), r.start, np.uint8), y=np.arange(len(r))))
    np.savez(d/'p.npz', arr_0=np.full((5, 8, 8, 3), 7, np.uint8))
    save_file(dict(w=torch.arange(9.)), d/'w.safetensors')
    step = next((d/'c').glob('step-*'))
    pin = f'{d/"w.safetensors"}#sha256={sha256(d/"w.safetensors")}'
    def net(name, cls):
        return lambda: (lambda n: (digest(n), json.dumps(n.meta, sort_keys=True)))(load_net(d/name, cls))
    def ckpt():
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            found = load_checkpoint(d/'c')
        if found is None:
            raise ValueError('no sound checkpoint')
        return json.dumps(found[1], sort_keys=True), *(v.double().sum().item() for v in found[0]['net'].values())
    def lat():
        return (lambda l:
                       tuple(v.double().sum().item() for v in l.read(range(len(l)))['moments']) +
                       (l.entropies(slice(None)).sum().item(), l.labels(slice(None)).sum().item())
                      )(build_latents(d/'lat', ds, vae, cal, progress=False))
    out = {f'{n}.{e}': (d/f'{n}.{e}', net(n, c))
           for n,c in (('dvae', DVAE), ('content', D2iT), ('grain', GrainTransformer))
           for e in ('safetensors', 'json')}
    out |= ({f'checkpoint {f.name}': (f, ckpt) for f in sorted(step.iterdir())} |
            {f'latents {n}': (d/'lat'/n, lat) for n in ('latents.bin', 'latents.json')})
    return out | dict(
        calibration=(d/'cal.json',      lambda: load_calibration(d/'cal.json').to_json()),
        chunk=(fs[1],                   lambda: [a.tobytes() for t in read_chunks(fs, 'x', 'y') for a in t]),
        pictures=(d/'p.npz',            lambda: read_pictures(d/'p.npz').tobytes()),
        weights=(d/'w.safetensors',     lambda: read_weights(pin)[0]['w'].tolist())), {
        'map.json': (d/'map.json',      lambda: GrainMap.from_json((d/'map.json').read_text()).to_json())}

# how a file's or folder's name may begin or end: True if what is in it is left out
NAMES = {'': False, '.': True, '._': True, '_': False, ' ': False, '-': False}
FOLDERS = {'__MACOSX': True, '@eaDir': True, '.thumbnails': True, '$RECYCLE.BIN': True, 'deeper': False, 'train': False, 'é': False, 'e\u0301': False}
CONTENTS = {'': True, '.png': True, '.jfif': True, '.PNG': True, '.dat': True, '.txt': False, '.csv': False, '.heic': False}

def folders(d, n, seed=0):
    "n trees: each picture is read once, in its class, or named among what was left out; nothing else is read"
    from d2it_nb.data import class_name
    rng = random.Random(seed)
    picture = odd.samples()['png']
    wrong = []
    crashes = []
    read = 0
    passed = 0
    for i in tqdm(range(n), desc='folders'):
        top = d/f'{i}'
        want,out = {},set()
        for c in rng.sample(['a', 'b', 'train', 'val', 'é', 'e\u0301'], rng.randint(1, 4)):
            for j in range(rng.randint(1, 6)):
                inner = rng.choice([*FOLDERS, *['']*16])
                start = rng.choice([*NAMES, *['']*8])
                (end,is_picture) = rng.choice(list(CONTENTS.items()))
                f = top/c/inner/f'{start}{j}{end}'
                f.parent.mkdir(parents=True, exist_ok=True)
                f.write_bytes(picture if is_picture else b'no picture')
                if is_picture and not NAMES[start] and not FOLDERS.get(inner):
                    want[f] = class_name(c)
                else:
                    out.add(top/c/inner if FOLDERS.get(inner) else f)
            if rng.random() < .3:
                link = top/f'z{rng.random():.6f}'
                link.symlink_to(rng.choice([top/c, top, top/'nowhere', 'circle']))
                out.add(link)
        parts = {'train', 'val'} >= set(want.values()) and len(set(want.values())) > 1
        bare = {class_name(p.name) for p in top.iterdir() if p.is_dir() and not p.is_symlink()} - set(want.values())
        try:
            ds = ImageFolder(top, 8)
            found = {f: ds.classes[ds.label(j)] for j,f in enumerate(ds.files)}
            if found != want:
                wrong.append((i, sorted(map(str, found.keys() ^ want.keys()))[:3]))
            if set(ds.passed) != out:
                wrong.append((i, sorted(map(str, set(ds.passed) ^ out))[:3]))
            ds.summary()
            read += len(found)
            passed += len(out)
        except ValueError as e:
            nested = {'train', 'val'} >= set(want.values()) and any(len(f.relative_to(top).parts) > 2 for f in want)
            if not (not want or parts or nested or bare):
                wrong.append((i, str(e)))
        except Exception as e:
            crashes.append((i, repr(e)))
    return dict(what='folders', trees=n, read=read, left_out=passed, wrong=wrong, crashes=crashes)

def inputs(d, n, seed=0):
    "n things as pictures: pixels as they should be, or a ValueError; nothing that lies elsewhere gets through"
    import torch
    from d2it_nb.data import PhotoCrops, to_image
    from d2it_nb.pipeline import D2iTPipeline
    rng = random.Random(seed)
    pipe = D2iTPipeline.load()
    x = PhotoCrops(64, 8).image(0)
    levels = np.asarray(to_image(x))
    wrong = []
    crashes = []
    read = 0
    (d/'one.png').parent.mkdir(parents=True, exist_ok=True)
    to_image(x).save(d/'one.png')
    forms = dict(pixels=x, levels=levels, image=to_image(x), path=d/'one.png', text=str(d/'one.png'), data=(d/'one.png').read_bytes(),
                 bytes=torch.from_numpy(levels.copy()).permute(2, 0, 1), batch=x[None], array=x.numpy(), several=np.stack([levels]*2))
    spoil = dict(nothing=lambda v: v, doubled=lambda v: v*2, of_255=lambda v: v*127.5 + 127.5, nan=lambda v: v*float('nan'),
                 whole=lambda v: v.long() if hasattr(v, 'long') else v.astype(int), half=lambda v: v[..., :32], flat=lambda v: v[0],
                 last=lambda v: v.movedim(0, -1) if hasattr(v, 'movedim') else np.moveaxis(v, -1, 0), truth=lambda v: v > 0,
                 text=lambda v: 'nowhere.png', none=lambda v: None, listed=lambda v: [v, v], empty=lambda v: [], odd=lambda v: rng.choice(ODD))
    for i in tqdm(range(n), desc='inputs'):
        form,how = rng.choice(list(forms)),rng.choice(list(spoil))
        try:
            given = spoil[how](forms[form])
        except Exception:
            continue                              # that can't be done to it
        try:
            got = pipe.pixels(given)
        except ValueError:
            continue
        except Exception as e:
            crashes.append((form, how, repr(e)[:200]))
            continue
        read += 1
        # of those that are let through, only a crop and what is no picture of ours may differ
        ok = got.shape[1:] == x.shape and got.isfinite().all() and got.abs().max() <= 1.001
        if not ok or how in ('nothing', 'listed') and (got - x).abs().max() > .005:
            wrong.append((form, how))
    return dict(what='inputs', given=n, read=read, wrong=wrong, crashes=crashes)

ODD = [None, True, -1, 0, 1, 2**31, 10**30, -10**30, 1e308, float('nan'), float('inf'), .5, '', 'x',
       '../../etc/passwd', '\0', 'ü'*300, [], [[]], {}, {'a': 1}, [1, 2, 3], [0]*5000, 'RecursionError']

def odd_json(text, rng):
    "The same JSON with one thing in it replaced by something odd, dropped or doubled; or no such JSON at all"
    if rng.random() < .08:
        return rng.choice(['', 'null', '[]', '{}', '[' * 10**5, '{"a":' * 10**5, '1' * 10**5, '"\\ud800"',
                           text[:-1], text + text, '\x00', text.encode('utf-16').decode('latin-1')])
    d = json.loads(text)
    at,path = d,[]
    while isinstance(at, (dict, list)) and at and (not path or rng.random() < .75):
        path.append(rng.choice(list(at) if isinstance(at, dict) else range(len(at))))
        at = at[path[-1]]
    up = d
    for k in path[:-1]:
        up = up[k]
    how = rng.random()
    if how < .15:
        del up[path[-1]]
    elif how < .25 and isinstance(up, list):
        up.append(up[path[-1]])
    elif how < .3 and isinstance(up, dict):
        up['surplus'] = 1
    else:
        up[path[-1]] = rng.choice(ODD)
    s = json.dumps(d)
    return s.replace('"RecursionError"', '['*3000 + ']'*3000)

def headers(raw, rng):
    "A safetensors file with a forged header"
    n, = struct.unpack('<Q', raw[:8])
    h = json.loads(raw[8:8 + n])
    k = rng.choice([k for k in h if k != '__metadata__'])
    how = rng.randrange(7)
    if how == 0:
        return struct.pack('<Q', rng.choice([2**63, 2**40, 10**8, 0, len(raw)])) + raw[8:]
    if how == 1:
        h[k]['data_offsets'] = rng.choice([[0, 2**60], [5, 1], [-1, 4], [0, len(raw)*9]])
    if how == 2:
        h[k]['shape'] = rng.choice([[2**40, 2**40], [-1], [], [10**18]])
    if how == 3:
        h[k]['dtype'] = rng.choice(['F128', 'OBJECT', '', 'I8'])
    if how == 4:
        h['../../escape'] = h.pop(k)
    if how == 5:
        h = {f't{i}': dict(dtype='F32', shape=[0], data_offsets=[0, 0]) for i in range(3000)} | h
    if how == 6:
        return struct.pack('<Q', 10**5) + b'{"a":'*20000 + raw[8 + n:]
    t = json.dumps(h).encode()
    return struct.pack('<Q', len(t)) + t + raw[8 + n:]

def files(d, n, seed=0):
    ("n damages (cut, flipped, overwritten, emptied) and n forgeries (odd JSON with a fresh seal, "
     "odd headers with a fresh hash), spread over all kinds of files")
    from d2it_nb.core import sealed
    rng = random.Random(seed)
    hard,soft = targets(d)
    canary = d/'escape'
    accepted = []
    crashes = []
    slow = 0.
    true = {k: f() for k,(_,f) in (hard | soft).items()}
    limit = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path('/proc/self/statm').read_text().split()[0])*resource.getpagesize()
    def attempt(k, path, f, bad, judge, beside=()):
        nonlocal slow
        keep = [(p, p.read_bytes()) for p in (path, *(b for b,_ in beside))]
        for p,data in ((path, bad), *beside):
            p.write_bytes(data)
        t = time.time()
        class_ = type('Late', (BaseException,), {})
        def ring(*_):
            raise class_
        signal.signal(signal.SIGALRM, ring)
        signal.alarm(20)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                got = f()
            if judge and got != true[k]:
                accepted.append(k)
        except (ValueError, OSError):
            pass
        except BaseException as e:
            crashes.append((k, repr(e)[:300], bad[:60].decode('latin-1')))
        finally:
            signal.alarm(0)
            [p.write_bytes(data) for p,data in keep]
        slow = max(slow, time.time() - t)
    # whoever wants more memory than that ends with MemoryError
    resource.setrlimit(resource.RLIMIT_AS, (size + 4*10**9, limit[1]))
    try:
        for i in tqdm(range(n), desc='damaged files'):
            k = list(hard)[i % len(hard)]
            path,f = hard[k]
            raw = path.read_bytes()
            how = rng.randrange(4)
            b = bytearray(raw)
            j = rng.randrange(len(raw))
            if how == 0:
                b = b[:j]
            elif how == 1:
                b[j] ^= 1 << rng.randrange(8)
            elif how == 2:
                m = rng.randrange(1, 64)
                b[j:j + m] = rng.randbytes(len(b[j:j + m]))
            else:
                b[j:j + rng.randrange(1, 64)] = b''
            attempt(k, path, f, bytes(b), True)
        texts = [k for k,(p,_) in (hard | soft).items() if p.suffix == '.json']
        tensors = [k for k,(p,_) in hard.items() if p.suffix == '.safetensors']
        for i in tqdm(range(n), desc='forged files'):
            if i % 4 == 3: # a header that the neighbour vouches for
                k = tensors[i//4 % len(tensors)]
                path,f = hard[k]
                bad = headers(path.read_bytes(), rng)
                h = hashlib.sha256(bad).hexdigest()
                beside = []
                if (js := path.with_suffix('.json')).is_file():
                    beside = [(js, json.dumps(sealed(json.loads(js.read_text()) | dict(sha256=h))).encode())]
                elif (m := path.parent/'manifest.json').is_file():
                    beside = [(m, json.dumps(json.loads(m.read_text()) | {path.name: h}).encode())]
                attempt(k, path, f, bad, False, beside)
            else:
                k = texts[i % len(texts)]
                path,f = (hard | soft)[k]
                bad = odd_json(path.read_text(), rng)
                beside = []
                try:
                    if isinstance(o := json.loads(bad), dict) and 'seal' in o and rng.random() < .8:
                        bad = json.dumps(sealed(o))
                except (ValueError, RecursionError):
                    pass
                raw = bad.encode(errors='surrogatepass')
                if path.name == 'meta.json':
                    beside = [(m := path.parent/'manifest.json',
                               json.dumps(json.loads(m.read_text()) |
                                          {'meta.json': hashlib.sha256(raw).hexdigest()}).encode())]
                attempt(k, path, f, raw, False, beside)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
    for k,(_,f) in (hard | soft).items():
        assert f() == true[k], k
    return dict(what='files', kinds=len(hard) + len(soft), damaged=n, forged=n, accepted=accepted,
                crashes=crashes, escaped=int(canary.exists() or (d.parent/'escape').exists()), slowest_s=slow,
                peak_MB=peak_mb())

@call_parse
def main(what:str, # images, files, folders, inputs or all
         n:int=0, # how often; 0: 100 damages a format of pictures, 1,000 of files
         seed:int=0, # of what is odd
         browser:bool=False, # ask Chromium for a second opinion about damaged JPEG, GIF and WebP files
        ):
    "Try it, and say how it went; exit status 1 if anything went wrong"
    d = Path(tempfile.mkdtemp())
    one = dict(images=lambda: images(d/'images', n or 100, seed, browser),
               files=lambda: files(d/'files', n or 1000, seed),
               folders=lambda: folders(d/'folders', n or 100, seed), inputs=lambda: inputs(d/'inputs', n or 1000, seed))
    if what != 'all' and what not in one:
        raise SystemExit(f'there are {", ".join(one)} and all, not {what}')
    rows = [f() for k,f in one.items() if what in (k, 'all')]
    for r in rows:
        print(json.dumps(r, indent=1))
    if what == 'all':
        save_result('data/results/fuzz.json', 'python tools/fuzz.py all' + ' --browser'*browser, rows=rows)
    shutil.rmtree(d, ignore_errors=True)
    raise SystemExit(any(r.get(k) for r in rows
                         for k in ('wrong', 'unnamed', 'crashes', 'hangs', 'accepted', 'escaped')))
