("Any sequence of what a user can do in the panel, against a plain model of what must come of it: "
 "once with a pipeline that counts, once with the real one.")
import json
import pytest, torch
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from test_editor import Recorder
from d2it_nb.painting import GrainMap
from d2it_nb.editor import Editor
from d2it_nb.pipeline import D2iTPipeline

class Panel(RuleBasedStateMachine):
    "The model: what is seen now (cells, picture, painted cells, the picture before, the opened one), what was, what was undone"
    real = False
    def __init__(self):
        super().__init__()
        self.pipe = self.make()
        (self.h,self.w),self.k = self.pipe.grid,self.pipe.k
        self.ed = Editor(self.pipe, label=1, steps=2, cfg=1., start=False, wait=True)
        self.pipe.editor = self.ed
        self.now = (((0,)*self.w,)*self.h, None, frozenset(), None, None)
        self.past = []
        self.future = []
        self.pins = 0
        self.photos = {}
        self.slid = None
        self.pictures = 0
    def make(self):
        return Recorder()
    def step(self, new):
        "A step of the history, if anything is new"
        if any(a is not b and (i % 2 or a != b) for i,(a,b) in enumerate(zip(new, self.now))):
            self.slid = None
            self.past.append(self.now)
            self.now,self.future = new,[]
    def fails(self, f):
        "Nothing changes, and the panel says why"
        self.ed.error = ''
        self.ed.safely(f)
        assert self.ed.error and self.ed.message.startswith('⚠')
    def works(self, f):
        self.ed.error = ''
        self.ed.safely(f)
        assert not self.ed.error, self.ed.error
    def wanted(self):
        "What Resample painted draws"
        cells,pic,dirty,*_ = self.now
        return {(r, c) for r in range(self.h) for c in range(self.w)
                if (r, c) in dirty or cells[r][c] != pic.M[0, r, c]}
    def all_are(self, M):
        return tuple(map(tuple, torch.as_tensor(M).tolist()))

    spots = st.lists(st.tuples(st.integers(-1, 8), st.integers(-1, 8)), min_size=1, max_size=6)
    grain = st.integers(0, 2)
    @rule(spots=spots, g=grain)
    def paint(self, spots, g):
        g = min(g, self.k - 1)
        self.works(lambda: self.ed.paint(spots, g))
        self.painted(spots, g)
    def painted(self, spots, g):
        on = frozenset((r, c) for r,c in spots if 0 <= r < self.h and 0 <= c < self.w)
        cells,pic,dirty,*rest = self.now
        self.step((tuple(tuple(g if (r, c) in on else v for c,v in enumerate(row))
                         for r,row in enumerate(cells)), pic, dirty | on, *rest))
    @rule(i=st.integers(-99, 999), g=st.sampled_from([-1, 3, 7]))
    def paint_no_grain(self, i, g):
        self.fails(lambda: self.ed._do(dict(kind='paint', cells=[i], grain=g), ()))
    @rule(which=st.sampled_from(['all_coarse', 'all_fine', 'invert']))
    def whole(self, which):
        self.works(self.ed.buttons[which].click)
        cells,*rest = self.now
        f = {'all_coarse': lambda v: 0, 'all_fine': lambda v: self.k - 1, 'invert': lambda v: self.k - 1 - v}[which]
        self.step((tuple(tuple(map(f, r)) for r in cells), *rest))
    @rule(seed=st.integers(0, 99))
    def load_map(self, seed):
        M = torch.randint(self.k, (self.h, self.w), generator=torch.Generator().manual_seed(seed))
        m = GrainMap(self.pipe.grid, self.k, M)
        self.works(lambda: self.ed._do(dict(kind='open', what='map'),
                                       [m.to_png() if seed % 2 else m.to_json().encode()]))
        self.step((self.all_are(M), *self.now[1:]))
    @rule(bad=st.sampled_from([b'', b'{}', b'\xff\xd8', b'\x89PNG', b'[' * 5000,
                               json.dumps(dict(kind='GrainMap', k=2, cells=[[0]])).encode(),
                               json.dumps(dict(kind='GrainMap', k=9, cells=[[0]])).encode()]))
    def load_no_map(self, bad):
        self.fails(lambda: self.ed._do(dict(kind='open', what='map'), [bad]))
        self.fails(lambda: self.ed._do(dict(kind='open', what='picture'), [bad]))
    @rule()
    def undo(self):
        self.works(self.ed.undo)
        if self.past:
            self.future.append(self.now)
            self.now = self.past.pop()
        self.slid = None
    @rule()
    def redo(self):
        self.works(self.ed.redo)
        if self.future:
            self.past.append(self.now)
            self.now = self.future.pop()
        self.slid = None

    @rule(share=st.sampled_from([0, .1, .3, .31, .5, .9, 1]))
    def slide(self, share):
        "Cells come in one order and go in the other; moved again, it is the same step"
        was = self.now
        self.works(lambda: self.ed._change(lambda: self.ed.session.spend(share)))
        cells = self.all_are(self.ed.map.cells)
        if cells == was[0]:
            return
        base = self.slid or was
        more = [a >= b for row,old in zip(cells, base[0]) for a,b in zip(row, old)]
        less = [a <= b for row,old in zip(cells, base[0]) for a,b in zip(row, old)]
        assert all(more) or all(less)
        if self.slid is None:
            self.step((cells, *was[1:]))
        else:
            self.now = (cells, *was[1:])
        self.slid = base
    def took(self, new, meanwhile=frozenset()):
        "A new picture has come, with all that goes with it"
        s = self.ed.sample
        cells,pic,*_ = self.now
        assert s is not pic
        self.pictures += 1
        self.step((new.get('cells', cells), s, frozenset(meanwhile), pic, new['photo']))
        if pic is None:
            self.past = []
        return s
    @rule(how=st.sampled_from(['ends', 'ends', 'stops', 'bursts', 'is painted on']), painted=st.booleans())
    def resample(self, how, painted):
        cells,pic,dirty,_,photo = self.now
        was = torch.tensor(cells)[None]
        R = self.wanted() if pic is not None and painted else None
        f = self.ed.redraw if painted else self.ed.new
        if painted and not R:
            return self.fails(f)
        if how == 'ends':
            self.works(f)
        elif how == 'is painted on':
            self.on_step(lambda: self.ed.paint([(0, 0), (1, 2)], 0))
            self.works(f)
            self.painted([(0, 0), (1, 2)], 0)
        elif how == 'stops':
            self.on_step(self.ed.stop)
            self.works(f)
            assert 'nothing was changed' in self.ed.message
            return
        else:
            def burst():
                raise RuntimeError('out of ink')
            self.on_step(burst)
            return self.fails(f)
        s = self.took(dict(photo=photo if painted else None), {(0, 0), (1, 2)} if how == 'is painted on' else ())
        assert torch.equal(s.M, was)
        if self.real and R is not None: # all codes outside are the old ones, bit by bit, and all inside are new
            f = self.pipe.dvae.region//self.pipe.dvae.factors[0]
            inside = torch.zeros(self.h, self.w, dtype=torch.bool)
            for r,c in R:
                inside[r, c] = True
            inside = inside.repeat_interleave(f, 0).repeat_interleave(f, 1)
            same = (s.z == pic.z)[0].all(0)
            assert same[~inside].all() and not same[inside].any()
    def on_step(self, f):
        self.pipe.hook = lambda i: (setattr(self.pipe, 'hook', lambda i: None), f()) if i == 1 else None
    @rule(v=st.sampled_from([-.5, 0., .5]))
    def open(self, v):
        x = (torch.full((1, 3, 6, 8), v) if not self.real else
             torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(int(10*v) + 10)).clamp(-1, 1))
        self.works(lambda: self.ed.open(v if not self.real else x[0]))
        self.ed.wishes.label.value = 1
        self.photos[id(self.ed.session.note.photo)] = v
        self.took(dict(cells=self.all_are(self.ed.sample.M[0]), photo=v))
    @rule()
    def re_encode(self):
        photo = self.now[4]
        if photo is None:
            return self.fails(self.ed.re_encode)
        self.works(self.ed.re_encode)
        self.took(dict(photo=photo))
    @rule()
    def pin(self):
        if self.now[1] is None:
            return self.fails(self.ed.pin)
        known = any(one.sample is self.now[1] for one in self.ed.session.pinned)
        self.works(self.ed.pin)
        self.pins += not known
    @rule(i=st.integers(0, 99))
    def restore(self, i):
        if not self.ed.session.results:
            return
        back = self.ed.session.results[i % len(self.ed.session.results)]
        self.works(lambda: self.ed.restore(back))
        self.ed.wishes.label.value = 1
        photo = None if back.photo is None else self.photos[id(back.photo)]
        self.now,was = (self.all_are(back.sample.M[0]), back.sample, frozenset(), self.now[1], photo),self.now
        self.past.append(was)
        self.future = []
        self.slid = None

    @invariant()
    def the_panel_is_the_model(self):
        ed,(cells,pic,dirty,before,photo) = self.ed,self.now
        note = ed.session.note
        assert (self.all_are(ed.map.cells) == cells and
                ed.canvas.cells == [list(r) for r in cells] and
                ed.sample is pic and note.painted == dirty and note.before is before and
                (note.photo is None) == (photo is None))
        assert ((len(ed.map.past), len(ed.map.future)) == (len(self.past), len(self.future)) and
                not ed.worker.busy and
                len(ed.session.results) == self.pictures and len(ed.canvas.pinned) == self.pins and
                len(ed.canvas.results) == min(self.pictures, ed.SHOWN))
        if pic is not None:
            want = self.wanted()
            assert (sorted(ed.canvas.marked) == sorted(r*self.w + c for r,c in want) and
                    {tuple(i) for i in ed.session.anew()[0].nonzero().tolist()} == want)

class RealPanel(Panel):
    real = True
    def make(self):
        pipe = D2iTPipeline.load()
        pipe.hook = lambda i: None
        made = pipe.generate,pipe.edit
        def hooked(f): # the recorder's hook, for the real one
            def g(*a, each, **kw):
                n = iter(range(99))
                return f(*a, each=lambda s: (pipe.hook(next(n)), each(s))[1], **kw)
            return g
        pipe.generate,pipe.edit = map(hooked, made)
        return pipe

def run(machine, n, steps):
    run_state_machine_as_test(machine,
                              settings=settings(max_examples=n, stateful_step_count=steps, deadline=None,
                                                derandomize=True, database=None,
                                                suppress_health_check=list(HealthCheck)))
def test_any_order_of_what_a_user_can_do():
    run(Panel, 60, 40)
def test_any_order_with_the_real_networks():
    run(RealPanel, 6, 20)
@pytest.mark.stress
def test_many_orders():
    run(Panel, 2000, 60)
    run(RealPanel, 60, 30)
