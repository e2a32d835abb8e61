"Evaluation as a user starts it: any number of ranks, stopped and started again, and refused with a sentence."
import json, signal
import numpy as np, pytest
from common import Fork, env, finished, wait_for
from d2it_nb.evaluate import main

FEW = '--images', 12, '--steps', 3, '--chunk', 2, '--avatars', 24, '--device', 'cpu'

def run(out, *flags, ranks=1):
    return finished('d2it_nb.evaluate', out, *FEW, *flags, ranks=ranks)

def result(out):
    with np.load(out/'samples.npz') as z:
        return z['arr_0'], json.loads((out/'card.json').read_text())['scores']

@pytest.fixture(scope='module')
def one(tmp_path_factory):
    d = tmp_path_factory.mktemp('evaluate')
    r = run(d/'one', '--cache', d/'cache')
    assert r.returncode == 0, r.stderr[-3000:]
    assert '# Evaluation' in r.stdout and 'p KID' in r.stdout
    return d

def test_two_ranks_make_the_same(one, tmp_path):
    r = run(tmp_path/'two', '--cache', one/'cache', '--png', 'true', ranks=2)
    assert r.returncode == 0, r.stderr[-3000:]
    (a,sa),(b,sb) = result(one/'one'),result(tmp_path/'two')
    assert (a == b).all() and sa == sb and len(list((tmp_path/'two'/'png').iterdir())) == 12

def test_stopped_and_started_again(one, tmp_path):
    p = Fork('d2it_nb.evaluate', tmp_path/'s', *FEW, '--cache', one/'cache', env=env())
    wait_for(p, lambda: len(list((tmp_path/'s').glob('chunks-*/0*.npz'))) >= 2)
    p.send_signal(signal.SIGTERM)
    assert p.wait(60) == 143 and 'goes on from here' in p.said()[0]
    done = len(list((tmp_path/'s').glob('chunks-*/0*.npz')))
    assert 2 <= done < 6
    assert run(tmp_path/'s', '--cache', one/'cache').returncode == 0
    (a,sa),(b,sb) = result(one/'one'),result(tmp_path/'s')
    assert (a == b).all() and sa == sb

@pytest.mark.parametrize('flags,says', [(['--model', '/nowhere'], 'is not a folder'),
                                        (['--data', '/nowhere'], 'is not a folder'),
                                        (['--maps', 'nice'], 'there are drawn'),
                                        (['--reference', '/nowhere.npz'], 'is not an .npz'),
                                        (['--features', 'inception:/nowhere'], 'is not a file'),
                                        (['--sampler', 'euler'], "no sampler 'euler'"),
                                        (['--steps', '0'], 'at least one sampling step'),
                                        (['--images', '3'], 'at least 5 pictures')])
def test_refused_with_a_sentence(tmp_path, capsys, flags, says):
    with pytest.raises(SystemExit) as e:
        main(str(tmp_path/'x'),
             **dict(zip((f[2:] for f in flags[::2]), [int(f) if f.isdecimal() else f for f in flags[1::2]])) |
             (dict(images=40) if '--images' not in flags else {}))
    assert e.value.code == 2 and says in capsys.readouterr().err

def test_another_seed_is_refused_in_the_same_folder(one):
    r = run(one/'one', '--cache', one/'cache', '--seed', 1)
    assert r.returncode == 2 and 'seed was 0, now 1' in r.stderr
