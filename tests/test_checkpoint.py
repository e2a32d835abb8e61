"Averages, the places of files, and what is swept away."
import json, shutil, threading, warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
import pytest, torch
from torch import nn
from d2it_nb import checkpoint as cp
from d2it_nb.ema import EMA
from d2it_nb.checkpoint import (check_opt, check_room, load_checkpoint, load_opt, opt_tensors, read_part, restore,
                                run_lock, save_checkpoint, steps_in, verify)
from d2it_nb.core import sha256
from d2it_nb.dist import SOLO, Ranks

def test_averages():
    net = nn.BatchNorm1d(3)
    ema = EMA(net)
    assert (ema.decay == .9999 and not ema.net.training and
            not any(p.requires_grad for p in ema.net.parameters()) and
            all(p.requires_grad for p in net.parameters()))
    assert [ema.decay_at(n) for n in (0, 1, 90)] == [1/10, 2/11, 91/100] and ema.decay_at(10**7) == .9999
    with torch.no_grad():
        net.weight.fill_(5.)
        net.running_mean.fill_(3.)
    # left out: nothing but buffers
    one = torch.ones(())
    ema.update(net, 8, one)
    assert ema.net.weight.tolist() == [1.]*3 and ema.net.running_mean.tolist() == [3.]*3
    ema.update(net, 8, 0*one)
    torch.testing.assert_close(ema.net.weight, torch.full((3,), 1 + .5*4))
    ema.update(net, 8)
    torch.testing.assert_close(ema.net.weight, torch.full((3,), 4.))      # decay ½

def test_where_checkpoints_are(tmp_path):
    d = tmp_path/'a'/'b'/'checkpoints'
    ts = dict(net=dict(w=torch.ones(2)))
    for n in (5, 1_000_000, 12):
        save_checkpoint(d, n, ts, {}, keep=3)
    (d/'step-x').mkdir()
    (d/'step-000007').write_text('a file')
    assert [n for n,_ in steps_in(d)] == [1_000_000, 12, 5]
    old = d/'step-000099.tmp-abc'
    old.mkdir()
    (old/'net.safetensors').write_bytes(b'half')
    save_checkpoint(d, 13, ts, dict(a=1), keep=3)
    assert not old.exists() and json.loads((d/'step-000013'/'meta.json').read_text()) == dict(a=1, step=13)
    # in place of the one that was there
    again = save_checkpoint(d, 13, dict(net=dict(w=torch.zeros(2))), {}, keep=3)
    assert read_part(again, 'net')['w'].tolist() == [0, 0]

def test_a_manifest_names_only_what_lies_beside_it(tmp_path):
    p = save_checkpoint(tmp_path/'c', 1, dict(net=dict(w=torch.ones(2))), {})
    (tmp_path/'c'/'x').write_bytes(b'x')
    m = p/'manifest.json'
    good = json.loads(m.read_text())
    m.write_text(json.dumps(good | {'../x': sha256(tmp_path/'c'/'x')}))
    with pytest.raises(ValueError, match='../x is missing'):
        verify(p)
    m.write_text(json.dumps(good))
    verify(p)
    (p/'net.safetensors').unlink()
    with pytest.raises(ValueError, match='net.safetensors is missing'):
        verify(p)

def test_room_and_folders(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(cp.shutil, 'disk_usage', lambda p: shutil._ntuple_diskusage(free, 0, free))
    check_room(tmp_path/'a'/'b', free)
    assert list((tmp_path/'a'/'b').iterdir()) == []
    with pytest.raises(OSError, match='free some, lower --keep'):
        check_room(tmp_path, free + 1)

def test_optimizer_states(tmp_path):
    net = nn.Linear(3, 2)
    opt = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    opt.step()
    ts = opt_tensors(opt, net)
    assert set(ts) == {f'{n}:{k}' for n in ('weight', 'bias') for k in ('step', 'exp_avg', 'exp_avg_sq')}
    check_opt(net, ts)
    for key,v,says in (('weight:exp_avg', torch.ones(2, 2), 'has shape'),
                       ('weight:exp_avg', torch.full((2, 3), torch.nan), 'not finite'),
                       ('gone:exp_avg', torch.ones(1), "state for 'gone'")):
        with pytest.raises(ValueError, match=says):
            check_opt(net, ts | {key: v})
    odd = nn.ModuleDict({'a': nn.Linear(1, 1)})
    oo = torch.optim.AdamW(odd.parameters())
    odd['a'](torch.ones(1, 1)).sum().backward()
    oo.step()
    new = torch.optim.AdamW(odd.parameters())
    load_opt(new, odd, opt_tensors(oo, odd))
    assert (all(torch.equal(v, opt_tensors(new, odd)[k]) for k,v in opt_tensors(oo, odd).items()) and
            new.state[odd['a'].weight]['step'].ndim == 0)

def test_parts_that_many_ranks_wrote(tmp_path):
    "Eleven of them, so that 10 comes after 9; whole tensors lie in the first"
    from safetensors.torch import save_file
    w = torch.arange(44.).view(22, 2)
    p = save_checkpoint(tmp_path/'c', 3, dict(alone=dict(v=torch.ones(1))), {})
    m = json.loads((p/'manifest.json').read_text())
    for r in range(11):
        f = p/f'net-{r}of11.safetensors'
        save_file(dict(w=w[2*r:2*r + 2].contiguous()) | (dict(n=torch.tensor(7.)) if r == 0 else {}), f)
        m[f.name] = sha256(f)
    (p/'manifest.json').write_text(json.dumps(m))
    ts,meta = load_checkpoint(tmp_path/'c')
    assert (set(ts) == {'alone', 'net'} and meta['step'] == 3 and
            torch.equal(ts['net']['w'], w) and ts['net']['n'] == 7)
    with pytest.raises(ValueError, match="no part 'other'"):
        read_part(p, 'other')

def test_the_lock_of_a_run(tmp_path):
    d = tmp_path/'new'/'run'
    with run_lock(d):
        assert d.is_dir()
        with pytest.raises(ValueError, match='in use'):
            run_lock(d).__enter__()
    with run_lock(d):
        pass

class Together(Ranks):
    "One of several ranks that are threads: what each says, all hear"
    def gather(self, obj):
        self.said[self.rank] = obj
        self.gate.wait()
        out = list(self.said)
        self.gate.wait()
        return out
    def any(self, flag):
        return any(self.gather(bool(flag)))

def together(world, f): # what `f(ranks)` returned or raised, in order
    kind = type('Here', (Together,), dict(said=[None]*world, gate=threading.Barrier(world, timeout=20)))
    def one(r):
        try:
            return f(kind(r, world))
        except Exception as e:
            return e
    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(one, range(world)))

class Rows:
    "This rank's rows of a tensor, told apart as a DTensor's are"
    def __init__(self, whole, ranks):
        self.shape = whole.shape
        self.mine = whole[slice(*cp.rows(len(whole), ranks.rank, ranks.world))]
        self.device_mesh = SimpleNamespace(get_local_rank=lambda: ranks.rank, size=lambda: ranks.world)
    def detach(self):
        return self
    def to_local(self):
        return self.mine

def test_ranks_write_one_checkpoint(tmp_path):
    "Whole tensors once, rows by each rank; read by any number of ranks, also by those that get no row"
    w = torch.arange(14.).view(7, 2)
    b = torch.ones(3)
    few = torch.tensor([[5.]])
    def ts(ranks):
        return {'net-.5': dict(w=Rows(w, ranks), few=Rows(few, ranks), b=b), 'ema': dict(b=b)}
    at = together(3, lambda ranks: save_checkpoint(tmp_path, 4, ts(ranks), dict(a=1), ranks=ranks))
    assert at == [tmp_path/'step-000004']*3 and [p.name for p in tmp_path.iterdir()] == ['step-000004']
    assert sorted(p.name for p in at[0].iterdir()) == ['ema.safetensors', 'manifest.json', 'meta.json',
                                                       *(f'net-.5-{r}of3.safetensors' for r in range(3))]
    assert verify(at[0]) == dict(a=1, step=4)
    whole = read_part(at[0], 'net-.5')
    assert set(load_checkpoint(tmp_path)[0]) == {'net-.5', 'ema'}
    assert torch.equal(whole['w'], w) and torch.equal(whole['few'], few) and torch.equal(whole['b'], b)
    for world in (1, 2, 3, 5):
        got = together(world, lambda ranks: read_part(at[0], 'net-.5', ts(ranks)['net-.5'].get))
        for name,v in dict(w=w, few=few).items():
            assert [[*g[name].shape] for g in got] == [[b - a, v.shape[1]] for a,b in (cp.rows(len(v), r, world) for r in range(world))]
            assert torch.equal(torch.cat([g[name] for g in got]), v)
        assert all(torch.equal(g['b'], b) and g['few'].dtype == few.dtype for g in got)

@pytest.mark.parametrize('ill', [0, 1])
def test_a_rank_that_can_not_write_stops_all(tmp_path, monkeypatch, ill):
    ts = dict(net=dict(w=torch.ones(2)))
    write = cp._write
    save_checkpoint(tmp_path, 1, ts, {})
    def full(tmp, tensors, ranks):
        if ranks.rank == ill:
            raise OSError(28, 'No space left')
        return write(tmp, tensors, ranks)
    monkeypatch.setattr(cp, '_write', full)
    got = together(2, lambda ranks: save_checkpoint(tmp_path, 2, ts, {}, ranks=ranks))
    assert all(isinstance(e, OSError) and 'last good one is step-000001' in str(e) for e in got)
    assert 'No space left' in str(got[ill]) and 'on another rank' in str(got[1 - ill])
    assert [p.name for p in tmp_path.iterdir()] == ['step-000001']

def test_a_main_rank_without_a_folder_stops_all(tmp_path):
    (tmp_path/'file').write_text('x')
    got = together(2, lambda ranks: save_checkpoint(tmp_path/'file'/'c', 2, dict(net=dict(w=torch.ones(2))), {}, ranks=ranks))
    assert all(isinstance(e, OSError) and 'last good one is none' in str(e) for e in got)

def test_ranks_restore_the_same_checkpoint(tmp_path):
    "What is damaged, or does not fit one of them, none of them takes"
    def save(step, v):
        net = nn.Linear(2, 1)
        nn.init.constant_(net.weight, v)
        opt = torch.optim.AdamW(net.parameters())
        net(torch.ones(1, 2)).sum().backward()
        opt.step()
        return save_checkpoint(tmp_path, step, dict(net=net.state_dict(), opt=opt_tensors(opt, net)), {}, keep=9)
    save(1, 1.)
    save(2, 2.)
    (save(3, 3.)/'net.safetensors').write_bytes(b'torn')
    def start(ranks, odd=None):
        net = nn.Linear(3 if ranks.rank == odd else 2, 1)
        kept = net.weight.clone()
        opt = torch.optim.AdamW(net.parameters())
        with warnings.catch_warnings(record=True, action='always') as said:
            meta = restore(tmp_path, dict(net=net), dict(opt=(opt, net)), ranks)
        return meta, net.weight.detach(), kept, [str(w.message) for w in said], len(opt.state)
    got = [start(SOLO), *together(2, start)]
    for meta,w,_,said,n in got:
        assert meta['step'] == 2 and (w > 1.9).all() and n == 2
    assert 'step-000003' in got[0][3][0] and len(got[0][3]) == 1
    for meta,w,kept,_,n in together(2, lambda ranks: start(ranks, odd=1)):
        assert meta is None and torch.equal(w, kept) and n == 0

def test_the_main_rank_holds_the_lock_for_all(tmp_path):
    def use(ranks):
        with run_lock(tmp_path/'run', ranks):
            ranks.gather(0)
            with pytest.raises(ValueError, match='in use'):
                run_lock(tmp_path/'run').__enter__()
            ranks.gather(0)
            return True
    assert together(2, use) == [True, True]
    with run_lock(tmp_path/'run'):
        got = together(2, use)
    assert all(isinstance(e, ValueError) and 'in use' in str(e) for e in got)
    assert together(2, use) == [True, True]
