"One command from a folder of photographs to networks that draw; stopped in between, it goes on."
import signal
import pytest
from common import Fork, env, finished, photographs, wait_for
from faults import log_of
from d2it_nb.checkpoint import newest
from d2it_nb.demo import not_seen
from d2it_nb.pipeline import D2iTPipeline

@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp('photos'), 40, 32)

@pytest.mark.parametrize('sig', [signal.SIGTERM, signal.SIGINT])
def test_stopped_and_started_again(photos, tmp_path, sig):
    run = tmp_path/'run'
    command = ['d2it_nb.demo', '--run', run, '--nproc', 1, '--preset', 'tiny', '--data', photos, '--ship', tmp_path/'ship']
    p = Fork(*command, env=env())
    wait_for(p, lambda: log_of(run/'dvae'))
    p.send_signal(sig)
    assert (p.wait(60) == 143 and
            not (run/'dvae'/'model.json').exists() and
            list((run/'dvae'/'checkpoints').iterdir()))
    assert newest(run/'dvae'/'checkpoints')[1]['step'] == log_of(run/'dvae')[-1]['step'] < 20    # saved where it was stopped
    if sig == signal.SIGINT:
        return
    r = finished(*command)
    assert r.returncode == 0 and 'resuming at step' in r.stdout, r.stderr[-2000:]
    assert r.stdout.index('first.png shows') < r.stdout.index('d2it_nb.train grain')      # before the other stages
    assert {'first.png', 'idea.png', 'pictures.png', 'film.png', 'paint.gif', 'curves.png',
            'figures.json'} <= {f.name for f in run.iterdir()}
    pipe = D2iTPipeline.load(tmp_path/'ship')
    assert (pipe.classes == sorted({f.name for f in photos.iterdir()}) and
            pipe.generate(pipe.classes[0], steps=2).x.shape == (1, 3, 32, 32))
    ds = not_seen(pipe, 64, photos)
    assert len(ds) >= 2 and pipe.dvae.meta['data'].startswith(ds.ds.ds.fingerprint)

def test_a_preset_that_not_all_stages_have(tmp_path):
    r = finished('d2it_nb.demo', '--run', tmp_path, '--preset', 'small')
    assert (r.returncode == 1 and
            "no preset 'small' for grain, content; all stages have tiny, demo" in r.stderr and
            'Traceback' not in r.stderr)
