"Calibration from the shell: stopped and resumed, every flag used, shards of a folder with bad files."
import json, os, re, signal, time
import pytest
from PIL import Image
from common import Fork, env, photographs, wait_for
from d2it_nb.data import PhotoCrops, to_image

FLAGS = ['--size', '64', '--region', '8']

def start(*args):
    return Fork('d2it_nb.thresholds', *args, env=env())
def run(*args):
    p = start(*args)
    assert p.wait(300) == 0, p.said()[1][-2000:]

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "1,500 pictures, 24 different ones"
    d = tmp_path_factory.mktemp('many')
    ds = PhotoCrops(64, n=24)
    for i in range(24):
        to_image(ds.image(i)).save(d/f'p{i:02d}.png')
    for i in range(24, 1500):
        os.link(d/f'p{i % 24:02d}.png', d/f'q{i:04d}.png')
    return d

@pytest.fixture(scope='module')
def whole(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp('whole')/'t.json'
    run(folder, *FLAGS, '--workers', 2, '--out', out)
    return out.read_text()

@pytest.mark.parametrize('sig', [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed(folder, whole, tmp_path, sig):
    out = tmp_path/'t.json'
    part = tmp_path/'t.json.part'
    p = start(folder, *FLAGS, '--workers', 1, '--out', out)
    wait_for(p, lambda: re.search(r'calibrating: +[1-9]', p.said()[1]))
    time.sleep(.3)
    p.send_signal(sig)
    p.wait(60)
    err = p.said()[1]
    assert p.returncode == 128 + sig and 'the same command goes on where it was' in err and not out.exists(), err
    done = json.loads(part.read_text())
    n = next(iter(done['parts'].values()))[0][1]
    assert 0 < n < 1500 and done['images'] == n
    run(folder, *FLAGS, '--workers', 2, '--out', out)
    assert out.read_text() == whole and not part.exists()

def test_flags_and_three_shards(folder, whole, tmp_path):
    outs = [tmp_path/f'{i}.json' for i in (1, 2, 3)]
    for i,o in enumerate(outs):
        run(folder, *FLAGS, '--shard', f'{i + 1}/3', '--workers', 0, '--out', o)
    run(outs[2], outs[0], outs[1], '--out', tmp_path/'m.json')
    assert (tmp_path/'m.json').read_text() == whole
    Image.new('RGB', (40, 40)).save(folder/'small.png')
    try:
        run(folder, *FLAGS, '--preset', 'dqvae', '--n', 60, '--small', 'skip', '--workers', 0,
            '--out', tmp_path/'f.json')
    finally:
        (folder/'small.png').unlink()
    got = json.loads((tmp_path/'f.json').read_text())
    assert (got['settings']['bins'] == 32 and
            not got['settings']['rounded'] and got['images'] == 60 and
            list(got['parts'])[0].endswith(', 60 of 1500'))

def test_shards_with_bad_files_merge_to_one_pass(tmp_path):
    d = photographs(tmp_path/'d', 60, classes=())
    for i in (5, 55):
        f = d/f'{i:02d}.png'
        f.write_bytes(f.read_bytes()[:1500])      # one in each half, headers intact
    for i in (1, 2):
        run(d, *FLAGS, '--shard', f'{i}/2', '--workers', 0, '--out', tmp_path/f'{i}.json')
    run(tmp_path/'1.json', tmp_path/'2.json', '--out', tmp_path/'m.json')
    run(d, *FLAGS, '--workers', 0, '--out', tmp_path/'w.json')
    assert (tmp_path/'m.json').read_text() == (tmp_path/'w.json').read_text()
    assert sorted(json.loads((tmp_path/'m.json').read_text())['unreadable']) == ['05.png', '55.png']
