"Pictures and numbers as they come: odd files, files that break in the middle of a run, numbers that are not finite."
import io, json, warnings
from pathlib import Path
import numpy as np, pytest, torch
from PIL import Image
import fuzz, odd_images as odd
from common import finished, losses, refused
from faults import arguments, env
from d2it_nb import data, train as engine
from d2it_nb.checkpoint import newest, steps_in
from d2it_nb.latents import Latents

def test_odd_pictures(tmp_path):
    r = fuzz.images(tmp_path, 8)
    assert r['files'] > 320 and r['read'] > 140, r
    assert ((r['crashes'], r['hangs'], r['wrong'], r['unnamed']) == (0, 0, [], []) and
            r['peak_MB'] < 1500), r

def test_a_careless_reader_is_found_out(tmp_path, monkeypatch):
    def careless(path):
        try:
            return Image.open(io.BytesIO(path) if isinstance(path, bytes) else path).convert('RGB')
        except Exception as e:
            raise ValueError(f'{path if isinstance(path, str) else ""}: {e}') from None
    monkeypatch.setattr(fuzz, 'read_image', careless)
    monkeypatch.setattr(odd, 'bad', lambda seed: {})
    monkeypatch.setattr(odd, 'things', lambda d: ([], []))
    r = fuzz.images(tmp_path, 1)
    wrong = {k for k,_ in r['wrong']}
    assert {'exif6.jpg', 'rgba8.png', 'grey16-key.png', 'cmyk-profile.jpg', 'hole.gif'} <= wrong, wrong

def test_folders_as_they_are_left(tmp_path):
    r = fuzz.folders(tmp_path, 60)
    assert r['read'] > 100 and r['left_out'] > 100, r
    assert (r['wrong'], r['crashes']) == ([], []), r

def test_a_scan_that_sees_hidden_files_is_found_out(tmp_path, monkeypatch):
    monkeypatch.setattr(data, 'hidden', lambda name: False)
    assert fuzz.folders(tmp_path, 20)['wrong']

def test_whatever_is_given_as_a_picture(tmp_path, monkeypatch):
    r = fuzz.inputs(tmp_path, 400)
    assert r['read'] > 50, r
    assert (r['wrong'], r['crashes']) == ([], []), r
    monkeypatch.setattr('d2it_nb.pipeline.check_pixels', lambda x: None)
    assert fuzz.inputs(tmp_path, 400)['wrong']

def test_damaged_and_forged_files(tmp_path):
    r = fuzz.files(tmp_path/'f', 320)
    assert (r['accepted'], r['crashes'], r['escaped']) == ([], [], 0) and r['kinds'] >= 16, r

def test_a_reader_without_seals_is_found_out(tmp_path, monkeypatch):
    from d2it_nb import calibration, core
    for m in (core, calibration):
        monkeypatch.setattr(m, 'unsealed', lambda d, what: d)
    assert 'calibration' in fuzz.files(tmp_path/'f', 320)['accepted']

def folder(d, n=40):
    "Two classes; a picture whose second half is missing, one that is no picture"
    for i in range(n):
        (d/'ab'[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(odd.art(i)).save(d/'ab'[i % 2]/f'{i:02d}.jpg', quality=95)
    torn = d/'a'/'04.jpg'
    torn.write_bytes(torn.read_bytes()[:-100])
    (d/'b'/'99.jpg').write_bytes(b'hello')
    return torn

def test_pictures_that_break_in_a_run(tmp_path):
    "Training, latents and stage 2 go on; the list names what was left out; a picture of the same class stands in"
    torn = folder(tmp_path/'p')
    def names(f):
        return sorted(json.loads(l)['file'].rsplit('/', 1)[1] for l in f.read_text().splitlines())
    for stage,more in (('dvae', ['--held', 0, '--w_gan', 0, '--calib', 8, '--workers', 2]), ('content', [])):
        r = finished('d2it_nb.train', *arguments(stage, tmp_path/stage, '--data', tmp_path/'p', *more),
                     env=env() | dict(PYTHONWARNINGS='default'))
        assert r.returncode == 0, r.stderr[-3000:]
        assert '04.jpg' in r.stderr and 'stands in for it' in r.stderr
    assert (names(tmp_path/'dvae'/'quarantine.jsonl') == names(tmp_path/'latents'/'quarantine.jsonl') ==
            ['04.jpg', '99.jpg'])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        ds = data.ImageFolder(tmp_path/'p', 32)
    i = ds.files.index(torn)
    lat = Latents(tmp_path/'latents')
    assert (torch.equal(lat.entropies(2*i), lat.entropies(2*i + 2)) and
            ds.label(i) == ds.label(i + 1) and
            lat.labels(2*i).tolist() == [ds.label(i)])
    for f in ds.files[1:7]:
        f.write_bytes(f.read_bytes()[:-100])
    for _ in range(2):                                                        # and again, when it is started again
        says = refused('dvae', tmp_path/'again', '--data', tmp_path/'p', '--held', 0, '--w_gan', 0, '--calib', 4)
        assert 'files cannot be read, more than 5%' in says and 'quarantine.jsonl' in says

@pytest.fixture
def run(tmp_path, monkeypatch):
    "A run whose stage is at hand, checkpoints after every other step"
    engine.train('dvae',
                 engine.parse(['dvae', '--preset', 'tiny', '--steps', '2', '--out', str(tmp_path/'dvae')])[1])
    made = []
    open_stage = engine.ContentStage.open
    monkeypatch.setattr(engine.ContentStage, 'open', lambda *a: made.append(open_stage(*a)) or made[-1])
    cfg = engine.parse(['content', '--preset', 'tiny', '--out', str(tmp_path/'c'),
                        '--dvae', str(tmp_path/'dvae'), '--latents', str(tmp_path/'latents'), '--steps', '12',
                        '--save_every', '2', '--log_every', '1'])[1]
    return cfg, made

def steps_until(cfg, made, at, poison):
    "Train; poison after step `at`; returns what was said"
    with pytest.raises(FloatingPointError) as e:
        for line in engine.fit('content', cfg):
            if line['step'] == at:
                poison(made[-1].net)
    return str(e.value)

def goes_on(cfg, step):
    "What is saved is whole, and the same command goes on from there"
    assert (newest(cfg.out + '/checkpoints')[1]['step'] == step and
            [n for n,_ in steps_in(cfg.out + '/checkpoints')] == [step, step - 2])
    engine.train('content', cfg)
    assert len(losses(Path(cfg.out))) == 12

def test_a_weight_that_is_not_a_number(run):
    def poison(net):
        with torch.no_grad():
            net.trunk.embed.weight[3, 2] = float('nan')
    assert 'not finite at step 6' in steps_until(*run, 5, poison)
    goes_on(run[0], 4)

def test_a_weight_that_no_loss_feels(run):
    "The embedding of a class that does not occur"
    cfg,made = run
    def poison(net):
        table = next(p for k,p in net.named_parameters() if p.ndim == 2 and len(p) == net.config['num_classes'] + 1)
        with torch.no_grad():
            table[3] = float('nan')
    says = steps_until(cfg, made, 4, poison)
    assert 'not finite' in says
    goes_on(cfg, 4)

def test_a_gradient_that_is_not_a_number(run):
    says = steps_until(*run, 6, lambda net: net.trunk.embed.weight.register_hook(lambda g: g*float('nan')))
    assert 'not finite at step 7' in says and 'train ' in says
    goes_on(run[0], 6)

def test_a_picture_that_is_not_a_number(tmp_path, monkeypatch):
    "Goes onto the list, by name, and another stands in"
    whole = data.Avatars.image
    monkeypatch.setattr(data.Avatars, 'image',
                        lambda self, i, rng=None:
                            whole(self, i, rng)*(float('nan') if i == 11 and rng is not None else 1))
    engine.train('dvae', engine.parse(['dvae', '--preset', 'tiny', '--out', str(tmp_path/'d')])[1])
    assert ([json.loads(l)['file'] for l in (tmp_path/'d'/'quarantine.jsonl').read_text().splitlines()] ==
            ['train toonHead 1'] and
            all(np.isfinite(losses(tmp_path/'d'))))
