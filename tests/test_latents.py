("The latent cache, made by processes: any number of ranks writes the same bytes; "
 "a killed one goes on, loses nothing and repeats nothing.")
import numpy as np, pytest
from common import killed, refused, started, train, wait_for
from faults import arguments
from d2it_nb.latents import checksums, record_type

@pytest.fixture(scope='module')
def stage1(tmp_path_factory):
    "An autoencoder, and the cache that one process makes with it: 16 chunks"
    d = tmp_path_factory.mktemp('latents')
    train('dvae', d/'dvae', '--steps', 2, '--save_every', 2)
    train('grain', d/'one', *flags(d, d/'cache'))
    return d

def flags(d, cache):
    return ['--dvae', d/'dvae', '--latents', cache, '--avatars', 512, '--steps', 1]
def records(cache):
    return np.fromfile(cache/'latents.bin', record_type((4, 8), 4, 32))

def test_two_ranks_write_the_same_bytes(stage1, tmp_path):
    train('grain', tmp_path/'run', *flags(stage1, tmp_path/'cache'), ranks=2)
    for f in ('latents.bin', 'latents.json', 'done.bin'):
        assert (tmp_path/'cache'/f).read_bytes() == (stage1/'cache'/f).read_bytes(), f

def done_in(cache):
    return (cache/'done.bin').read_bytes().count(1) if (cache/'done.bin').is_file() else 0

@pytest.mark.parametrize('ranks', [1, 2])
def test_killed_while_caching(stage1, tmp_path, ranks):
    cache = tmp_path/'cache'
    forks = started('d2it_nb.train', *arguments('grain', tmp_path/'run', *flags(stage1, cache)), ranks=ranks)
    wait_for(forks[0], lambda: done_in(cache) >= 4)
    killed(forks)
    done = (cache/'done.bin').read_bytes()
    assert 4 <= done.count(1) < len(done) == 16 and not (cache/'latents.json').exists()
    whole,part = records(stage1/'cache'),records(cache)
    for c in np.flatnonzero(np.frombuffer(done, np.uint8)):   # nothing that was noted as done is lost …
        assert (part[64*c:64*c + 64] == whole[64*c:64*c + 64]).all()
        r = part[64*c:64*c + 1].copy()
        r['y'] = -7
        r['crc'] = checksums(r)
        with open(cache/'latents.bin', 'r+b') as f:
            f.seek(64*c*part.itemsize)
            f.write(r.tobytes())      # … a mark in its first label …
    train('grain', tmp_path/'run', *flags(stage1, cache), ranks=ranks)
    after = records(cache)
    marked = np.zeros(len(after), bool)
    marked[[64*c for c in range(16) if done[c]]] = True
    # … shows that it is not made again
    assert (after['y'][marked] == -7).all()
    assert (after[~marked] == whole[~marked]).all()

def test_sigterm_while_caching(stage1, tmp_path):
    cache = tmp_path/'cache'
    p, = started('d2it_nb.train', *arguments('grain', tmp_path/'run', *flags(stage1, cache)))
    wait_for(p, lambda: done_in(cache))
    p.terminate()
    assert p.wait(60) == 143
    assert 0 < (cache/'done.bin').read_bytes().count(1) < 16

def test_another_cache_is_refused(stage1, tmp_path):
    assert ('holds latents of something else: n 1024, now 512' in
            refused('grain', tmp_path/'run', *flags(stage1, stage1/'cache'), '--avatars', 256))
