"Averages, the places of files, and what is swept away."
import json, shutil
import pytest, torch
from torch import nn
from d2it_nb import checkpoint as cp
from d2it_nb.checkpoint import (EMA, check_opt, check_room, load_checkpoint, load_opt, opt_tensors, read_part, run_lock,
                                save_checkpoint, steps_in, verify)
from d2it_nb.core import sha256

def test_averages():
    net = nn.BatchNorm1d(3); ema = EMA(net)
    assert (ema.decay == .9999 and not ema.net.training and
            not any(p.requires_grad for p in ema.net.parameters()) and
            all(p.requires_grad for p in net.parameters()))
    assert [ema.decay_at(n) for n in (0, 1, 90)] == [1/10, 2/11, 91/100] and ema.decay_at(10**7) == .9999
    with torch.no_grad(): net.weight.fill_(5.); net.running_mean.fill_(3.)
    # left out: nothing but buffers
    one = torch.ones(()); ema.update(net, 8, one)
    assert ema.net.weight.tolist() == [1.]*3 and ema.net.running_mean.tolist() == [3.]*3
    ema.update(net, 8, 0*one)
    torch.testing.assert_close(ema.net.weight, torch.full((3,), 1 + .5*4))
    ema.update(net, 8)
    torch.testing.assert_close(ema.net.weight, torch.full((3,), 4.))      # decay ½

def test_where_checkpoints_are(tmp_path):
    d = tmp_path/'a'/'b'/'checkpoints'; ts = dict(net=dict(w=torch.ones(2)))
    for n in (5, 1_000_000, 12): save_checkpoint(d, n, ts, {}, keep=3)
    (d/'step-x').mkdir()
    (d/'step-000007').write_text('a file')
    assert [n for n,_ in steps_in(d)] == [1_000_000, 12, 5]
    old = d/'step-000099.tmp-abc'; old.mkdir()
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
    with pytest.raises(ValueError, match='../x is missing'): verify(p)
    m.write_text(json.dumps(good)); verify(p); (p/'net.safetensors').unlink()
    with pytest.raises(ValueError, match='net.safetensors is missing'): verify(p)

def test_room_and_folders(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(cp.shutil, 'disk_usage', lambda p: shutil._ntuple_diskusage(free, 0, free))
    check_room(tmp_path/'a'/'b', free)
    assert list((tmp_path/'a'/'b').iterdir()) == []
    with pytest.raises(OSError, match='free some, lower --keep'): check_room(tmp_path, free + 1)

def test_optimizer_states(tmp_path):
    net = nn.Linear(3, 2)
    opt = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    opt.step(); ts = opt_tensors(opt, net)
    assert set(ts) == {f'{n}:{k}' for n in ('weight', 'bias') for k in ('step', 'exp_avg', 'exp_avg_sq')}
    check_opt(net, ts)
    for key,v,says in (('weight:exp_avg', torch.ones(2, 2), 'has shape'),
                       ('weight:exp_avg', torch.full((2, 3), torch.nan), 'not finite'),
                       ('gone:exp_avg', torch.ones(1), "state for 'gone'")):
        with pytest.raises(ValueError, match=says): check_opt(net, ts | {key: v})
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
    with pytest.raises(ValueError, match="no part 'other'"): read_part(p, 'other')

def test_the_lock_of_a_run(tmp_path):
    d = tmp_path/'new'/'run'
    with run_lock(d):
        assert d.is_dir()
        with pytest.raises(ValueError, match='in use'): run_lock(d).__enter__()
    with run_lock(d): pass
