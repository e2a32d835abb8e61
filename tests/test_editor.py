("The panel against a pipeline that writes down what it is asked for; "
 "three grains on a grid that is not square, so that nothing can be swapped unseen.")
import io, re, threading
from types import SimpleNamespace
import pytest, torch
from PIL import Image
from d2it_nb.data import to_image
from d2it_nb.painting import GrainMap
from d2it_nb.canvas import data_url
from d2it_nb.editor import Editor, allowed_samplers
from d2it_nb.stepper import Stepper
from d2it_nb.pipeline import D2iTPipeline, Samples
from d2it_nb.diffusion import Flow

def samples(v, M):
    return Samples(torch.full((1, 3, 6, 8), v), torch.zeros(1, 4, 12, 16), M, torch.tensor([0]), ((0, 0),),
                   torch.zeros(1, 4, 12, 16), {})
def shown(v):
    return data_url(to_image(torch.full((3, 6, 8), v)))

class Recorder:
    grid = (3, 4)
    k = 3
    classes = ['a', 'b', 'c']
    device = 'cpu'
    def __init__(self):
        self.asked = []
        self.value = -.5
        self.hook = lambda i: None
        self.seen = []
    def _sample(self, M, each, steps):
        for i in range(steps):
            self.hook(i)
            each(SimpleNamespace(x0=torch.full((1,), .75), x=torch.full((1,), .1)))
            self.seen.append(self.editor.canvas.picture)
        self.value += .25
        return samples(self.value, torch.as_tensor(M))
    def generate(self, label, M, each, steps, **kw):
        self.asked.append(dict(do='generate', label=label, M=M.tolist(), steps=steps, **kw))
        return self._sample(M, each, steps)
    def edit(self, s, M, R, each, steps, **kw):
        self.asked.append(dict(do='edit', s=s, M=M.tolist(), R=R[0].nonzero().tolist(), steps=steps, **kw))
        return self._sample(M, each, steps)
    def draw_map(self, label, **kw):
        self.asked.append(dict(do='draw', label=label, **kw))
        return torch.full((1, 3, 4), 2)
    def map_of(self, x, ratio):
        self.asked.append(dict(do='map_of', x=x, ratio=ratio))
        return (torch.arange(12).view(1, 3, 4) < 12*ratio).long()
    def pixels(self, p):
        return torch.full((1, 3, 6, 8), float(p))
    def encode(self, x, M):
        return samples(x.flatten()[0].item(), torch.as_tensor(M))
    def decode(self, z, M):
        return z[0].expand(1, 3, 6, 8)

@pytest.fixture
def ed():
    r = Recorder()
    r.editor = Editor(r, label='c', seed=7, steps=5, sampler='ddim', cfg=2.5, start=False, wait=True)
    return r.editor

def test_everything_is_passed_on(ed):
    ed.new()
    how = dict(seed=7, steps=5, sampler='ddim', cfg=2.5, progress=False)
    assert ed.pipe.asked == [dict(do='generate', label=2, M=[[[0]*4]*3], **how)]
    one = ed.sample
    ed.paint([(1, 3)], 2)
    ed.redraw()
    assert ed.pipe.asked[1] == dict(do='edit', s=one, M=[[[0]*4, [0, 0, 0, 2], [0]*4]], R=[[1, 3]], label=[2],
                                    **how)
    ed.wishes.label.value,ed.wishes.seed.value = 'any',8
    ed.paint([(2, 0)], 0)
    ed.redraw()
    assert (ed.pipe.asked[2]['label'] == [None] and ed.pipe.asked[2]['seed'] == 8 and
            ed.pipe.asked[2]['R'] == [[2, 0]])
    ed.wishes.label.value,ed.budget.value = 1,.25
    ed.draw_map()
    assert {k: ed.pipe.asked[3][k] for k in ('label', 'ratio')} == dict(label=1, ratio=.25)
    ed.open(.5)
    assert ed.pipe.asked[4]['ratio'] == .5 and ed.map.tensor.sum() == 6 and ed.sample.x[0, 0, 0, 0] == .5

def test_the_first_picture_comes_by_itself():
    r = Recorder()
    r.editor = SimpleNamespace(canvas=SimpleNamespace(picture=''))
    ed = Editor(r, wait=True)
    assert ed.sample is not None and not ed.map.past and ed.canvas.picture == shown(-.25)
    real = D2iTPipeline.load('demo')
    first = Editor(real, seed=2, wait=True)
    assert torch.equal(first.sample.M, real.draw_map(0, ratio=.5, seed=2))

def test_painting_is_where_it_was_painted(ed):
    ed.new()
    ed.heard(dict(id='x-1', kind='paint', cells=[7, 2], grain=1))
    assert (ed.map.cells == [[0, 0, 1, 0], [0, 0, 0, 1], [0]*4] and
            sorted(ed.canvas.marked) == [2, 7] and ed.canvas.cells == ed.map.cells)
    # strokes add up; repainting counts
    ed.paint([(2, 1)], 0)
    assert ed.session.anew().nonzero()[:, 1:].tolist() == [[0, 2], [1, 3], [2, 1]]
    assert ed.buttons['redraw'].description == 'Redraw 3 cells'
    ed.heard(dict(kind='fill', at=[0, 2], grain=2))
    assert ed.map.cells[0] == [0, 0, 2, 0] and ed.map.cells[1] == [0, 0, 0, 1]
    # nothing new, no step
    n = len(ed.map.past)
    ed.paint([(9, 9)], 1)
    ed.paint([(2, 1)], 0)
    assert len(ed.map.past) == n
    ed.undo()
    assert ed.map.future
    ed.paint([(0, 0)], 1)
    assert not ed.map.future
    at = ed.map.cells
    ed.redo()
    assert ed.map.cells == at

def test_invert_and_random_of_three_grains(ed):
    ed.paint([(0, 1)], 1)
    ed.paint([(0, 2)], 2)
    ed.buttons['invert'].click()
    assert ed.map.cells[0] == [2, 1, 0, 2]
    # r = ½: half at least grain 1, a quarter grain 2; that is 3·6 + 12·3 of 15·12 codes
    ed.budget.value = .3
    ed.buttons['random'].click()
    assert (ed.map.tensor >= 1).sum() == 6 and (ed.map.tensor == 2).sum() == 3

def test_what_is_shown(ed):
    # x̂₀ meanwhile, then the picture
    ed.new()
    assert ed.pipe.seen[0] == shown(.75) and ed.canvas.picture == shown(-.25)
    ed.paint([(0, 0)], 1)
    ed.redraw()
    assert (ed.canvas.picture, ed.canvas.other) == (shown(0.), '')
    ed.beside.value = 'before'
    assert (ed.canvas.picture, ed.canvas.other) == (shown(0.), shown(-.25))
    ed.beside.value = '4 × difference'
    assert ed.canvas.other == shown(0.)
    ed.undo()
    assert ed.beside.value == 'nothing' and ed.canvas.picture == shown(-.25) and ed.canvas.other == ''
    ed.redo()
    assert ed.canvas.picture == shown(0.) and ed.session.note.before.x[0, 0, 0, 0] == -.25
    assert [one['url'] for one in ed.canvas.results] == [shown(-.25), shown(0.)]
    name,data = ed.save('picture.png')
    assert (name == 'picture.png' and
            Image.open(io.BytesIO(data)).getpixel((0, 0)) == (128,)*3 and
            ed.save('map.json')[1] == ed.map.to_json().encode())

def test_stop_and_errors_leave_everything_as_it_was(ed):
    ed.new()
    was,cells = ed.sample,ed.map.cells
    ed.pipe.hook = lambda i: ed.stop() if i == 2 else None
    ed.new()
    assert (ed.message == 'stopped after step 3; nothing was changed' and
            ed.sample is was and ed.canvas.picture == shown(-.25))
    def burst(i):
        if i == 2:
            raise RuntimeError('out of ink')
    ed.pipe.hook = burst
    ed.new()
    assert (ed.message == '⚠ RuntimeError: out of ink' and
            'burst' in ed.error and ed.sample is was and
            ed.canvas.picture == shown(-.25) and ed.map.cells == cells)
    # also what was opened
    ed.pipe.hook = lambda i: None
    ed.open(.5)
    was,photo = ed.sample,ed.session.note.photo
    ed.wishes.label.value = 0
    ed.pipe.hook = burst
    ed.new()
    assert ed.session.note.photo is photo
    # and it goes on
    ed.pipe.hook = lambda i: None
    ed.new()
    assert ed.sample is not was and 'drawn in' in ed.message and ed.session.note.photo is None

def test_what_is_done_while_it_samples(ed):
    go,there = threading.Event(),threading.Event()
    ed.pipe.hook = lambda i: i or (there.set(), go.wait(20))
    ed.worker.foreground = False
    ed.new()
    there.wait(20)
    ed.paint([(1, 3)], 2)
    ed.paint([(2, 2)], 0)
    assert ed.message == 'drawing …' and ed.buttons['stop'].button_style == 'danger'
    assert not ed.buttons['stop'].disabled and ed.buttons['new'].disabled
    for f in (ed.undo, ed.redo, lambda: ed.open(.5), ed.new):
        ed.safely(f)
        assert 'still sampling' in ed.message
    # painted meanwhile: the map keeps it, and it waits to be drawn
    ed.wishes.label.value = 0
    ed.wishes.seed.value = 99
    ed.wishes.cfg.value = 1.
    go.set()
    ed.wait(20)
    assert ed.map.cells[1] == [0, 0, 0, 2] and sorted(ed.canvas.marked) == [7, 10]
    assert ed.buttons['stop'].disabled and ed.buttons['stop'].button_style == ''
    # what made it, not what is set now
    assert (ed.session.results[-1].settings == dict(label=2, seed=7, steps=5, sampler='ddim', cfg=2.5) and
            ed.canvas.results[-1]['caption'] == '1: c')

def test_a_thumbnail_brings_all_of_it_back(ed):
    ed.open(.5)
    ed.paint([(0, 3)], 2)
    ed.re_encode()
    first = ed.sample
    ed.wishes.label.value,ed.wishes.seed.value = 0,1
    ed.new()
    ed.buttons['all_fine'].click()
    ed.heard(dict(kind='restore', number=1))
    assert (ed.sample is first and ed.session.note.photo is not None and ed.wishes.label.value == '?' and
            ed.wishes.seed.value == 7 and ed.map.cells[0][3] == 2)
    # also this is a step
    ed.undo()
    assert ed.map.cells == [[2]*4]*3

def test_only_the_newest_thumbnails_and_what_is_compared(ed):
    for _ in range(10):
        ed.new()
    assert [one['caption'] for one in ed.canvas.results] == [f'{i}: c' for i in range(3, 11)]
    ed.heard(dict(kind='restore', number=2))
    assert ed.sample is ed.session.results[2].sample
    ed.heard(dict(kind='pin'))
    ed.wishes.seed.value = 9
    ed.new()
    ed.pin()
    assert [one['caption'] for one in ed.canvas.pinned] == ['3: seed 7', '11: seed 9']
    ed.heard(dict(kind='unpin', number=2))
    ed.heard(dict(kind='unpin', number=2))                # pressed twice: nothing else goes
    assert [one['caption'] for one in ed.canvas.pinned] == ['11']

def test_what_is_compared_follows_at_once_also_while_it_draws(ed):
    ed.new()
    ed.new()
    ed.pin()
    ed.pipe.hook = lambda i: i or ed.unpin(1)
    seen = []
    ed.canvas.observe(lambda change: seen.append((len(change['new']), ed.worker.busy)), 'pinned')
    ed.new()
    assert seen[0] == (0, True)

def test_the_slider_by_small_steps(ed):
    "It reaches its end, though one step of it is less than a cell; its map is met as nearly as cells allow"
    ed.new()
    for i in range(1, 101):
        ed.budget.value = i/100
        assert ed.budget.value == i/100
    assert ed.map.cells == [[2]*4]*3
    ed.paint([(0, 0)], 0)
    assert ed.budget.value < 1

def test_a_dit_begins_all_fine():
    from d2it_nb.content_transformer import DiT
    from d2it_nb.core import asset, load_net
    pipe = D2iTPipeline.load()
    dit = D2iTPipeline(pipe.dvae, load_net(asset('shipped')/'dit', DiT), pipe.cal, pipe.grain)
    ed = Editor(dit, steps=2, wait=True)
    assert ed.sample is not None and ed.map.tensor.min() == 1
    assert all('DiT' in ed.reason(name) for name in ('draw_map', 'random', 'from_scores', 'all_coarse'))

def test_networks_without_classes():
    r = Recorder()
    r.classes,r.labelled = [],['grain']
    ed = Editor(r, start=False, wait=True)
    assert ed.wishes.label.value == 'any' and ed.wishes.cfg.value == 1. and ed.wishes.cfg.disabled
    with pytest.raises(ValueError, match='know no classes'):
        Editor(r, label='a', start=False)

def test_keys_do_what_buttons_can(ed):
    ed.heard(dict(kind='redraw'))
    assert ed.message == 'there is no picture yet' and not ed.error
    ed.heard(dict(kind='new'))
    assert ed.sample is not None
    ed.heard(dict(kind='redraw'))
    assert ed.message == 'nothing is painted; paint some cells first'

def test_an_opened_picture_has_no_class(ed):
    ed.open(.5)
    assert ed.wishes.label.value == '?' and ed.beside.value == 'original' and ed.canvas.other == shown(.5)
    ed.paint([(0, 0)], 1)
    assert ed.buttons['redraw'].disabled and ed.buttons['redraw'].tooltip == 'choose a class first, or any'
    ed.wishes.label.value = 'any'
    assert not ed.buttons['redraw'].disabled
    ed.redraw()
    assert ed.session.note.photo is not None            # its original is still there to compare with

def test_the_slider_takes_one_step_however_far_it_moves(ed):
    ed.open(.5)
    n = len(ed.map.past)
    for share in (.5, .75, .1):
        ed.budget.value = share
    assert len(ed.map.past) == n + 1
    ed.undo()
    assert ed.map.tensor.sum() == 6

def test_refused_at_the_start():
    for kw,says in ((dict(label='d'), "no class 'd'; there are 0 a, 1 b, 2 c"),
                    (dict(label=9), 'no class 9'),
                    (dict(sampler='heun'), "no sampler 'heun' for these networks")):
        with pytest.raises(ValueError, match=says):
            Editor(Recorder(), **kw)
    assert 'heun' in allowed_samplers(SimpleNamespace(diff=Flow()))
    big = Editor(Recorder(), steps=500, cfg=.5, start=False)
    assert (big.wishes.steps.value, big.wishes.cfg.value) == (500, .5)

def test_costs_follow_steps_and_guidance():
    ed = Editor(D2iTPipeline.load(), steps=10, cfg=1., wait=True)
    ed.rate = 1e-8
    def cost(steps, cfg):
        ed.wishes.steps.value,ed.wishes.cfg.value = steps,cfg
        ed.price()
        here = re.findall('<td>([^<]*)</td>', ed.cost.value)[4:8]
        assert here[0] == 'this map'
        return float(here[2]),float(here[3])
    (a,s) = cost(10, 1.)
    (b,t) = cost(20, 1.)
    (c,u) = cost(10, 2.)
    assert (a == b and
            t == pytest.approx(2*s, abs=.11) and
            c == pytest.approx(2*a, abs=.02) and u == pytest.approx(2*s, abs=.11))

def test_the_stepper_passes_its_options_on(monkeypatch):
    pipe = D2iTPipeline.load()
    asked = {}
    film = pipe.film
    monkeypatch.setattr(pipe, 'film',
                        lambda label, M, n, seed, **how: asked.update(label=label, n=n, seed=seed, **how) or
                                                         film(label, M, n, seed, **how))
    Stepper(pipe, 'roses', torch.zeros(8, 8).long(), seed=4, steps=2, cfg=3., sampler='ddim')
    assert asked == dict(label='roses', n=1, seed=4, steps=2, cfg=3., sampler='ddim')

def test_a_map_with_transparent_places_is_refused():
    b = io.BytesIO()
    Image.new('RGBA', (4, 3), (0, 0, 0, 0)).save(b, 'PNG')
    with pytest.raises(ValueError, match='transparent'):
        GrainMap.from_png(b.getvalue(), (3, 4))
