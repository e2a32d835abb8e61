"Neighbour copy, its adjoint and its noise, for any number of grains, any size and any map."
import pytest, torch
from hypothesis import given, settings, strategies as st
from d2it_nb.core import assert_close, assert_equal
from d2it_nb.grain import *

@st.composite
def maps(draw):
    "A grain count and a batch of maps; all coarse, all fine and one odd cell are among them"
    k = draw(st.integers(1, 4))
    h = draw(st.integers(1, 5))
    w = draw(st.integers(1, 5))
    M = torch.randint(k, (draw(st.integers(1, 3)), h, w),
                      generator=torch.Generator().manual_seed(draw(st.integers(0, 2**31))))
    how = draw(st.sampled_from(['any', 'coarse', 'fine', 'one']))
    if how == 'coarse':
        M[:] = 0
    if how == 'fine':
        M[:] = k - 1
    if how == 'one':
        M[:] = 0
        M[0, draw(st.integers(0, h - 1)), draw(st.integers(0, w - 1))] = k - 1
    return k, M

def codes_for(M, k, c=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(len(M), c, M.shape[1]*2**i, M.shape[2]*2**i, generator=g, dtype=torch.double) for i in range(k)]

many = settings(max_examples=60, deadline=None)

@many
@given(maps())
def test_copy_places_every_code_where_its_region_is(km):
    k,M = km
    codes = codes_for(M, k)
    z = copy_codes(codes, M)
    s = 2**(k - 1)
    for n,r,c in torch.cartesian_prod(*(torch.arange(a) for a in M.shape)).view(-1, 3).tolist():
        g = M[n,r,c].item()
        own = codes[g][n, :, r*2**g:(r + 1)*2**g, c*2**g:(c + 1)*2**g]
        j = 2**(k - 1 - g)
        assert_equal(z[n, :, r*s:(r + 1)*s, c*s:(c + 1)*s], torch.kron(own, torch.ones(1, j, j, dtype=torch.double)))

@many
@given(maps())
def test_gather_is_the_adjoint_and_the_inverse_of_copy(km):
    k,M = km
    codes = codes_for(M, k)
    z = copy_codes(codes, M)
    a = torch.randn(z.shape, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    assert_close((code_weight(M, k)*z*a).sum(), sum((c*g).sum() for c,g in zip(codes, gather_codes(a, M, k))),
                 atol=1e-9)
    for c,g,i in zip(codes, gather_codes(z, M, k), range(k)):
        assert_equal(g, c*enlarge(M == i, 2**i)[:, None])   # selected codes come back to the bit, others as zero

@many
@given(maps())
def test_block_mean_is_a_projection(km):
    k,M = km
    a = torch.randn(len(M), 2, M.shape[1]*2**(k - 1), M.shape[2]*2**(k - 1),
                    generator=torch.Generator().manual_seed(2))
    p = block_mean(a, M, k)
    assert is_block_constant(p, M, k)
    assert_equal(block_mean(p, M, k), p)
    # what is taken away sums to zero
    assert_close((code_weight(M, k)*p).sum((1, 2, 3)), (code_weight(M, k)*a).sum((1, 2, 3)), atol=1e-3)
    assert (M == k - 1).all() == torch.equal(p, a)                              # only all-fine maps leave it alone

@many
@given(maps())
def test_counts_agree(km):
    k,M = km
    n = sum(4**g*(M == g).sum((1, 2)) for g in range(k))
    assert_equal(n_codes(M), n)
    assert_close(code_weight(M, k).sum((1, 2, 3)), n.float())
    assert_equal(torch.cat([grain_mask(M, g, k) for g in range(k)], 1).sum(1),
                 torch.ones(on_finest(M, k)[:, 0].shape).long())   # each place has one grain
    assert 0 <= budget(M, k).min() and budget(M, k).max() <= 1
    for g in range(1, k):
        assert_close(shares(M, k)[:, g - 1], (M >= g).double().mean((1, 2)))

@many
@given(maps(), st.integers(0, 2**31))
def test_noise_is_shared_scaled_and_local(km, seed):
    k,M = km
    e = torch.randn(len(M), 3, M.shape[1]*2**(k - 1), M.shape[2]*2**(k - 1),
                    generator=torch.Generator().manual_seed(seed))
    x = share_noise(e, M, k)
    assert is_block_constant(x, M, k)
    for g in range(k):   # j × the mean of the draw under each block
        j = 2**(k - 1 - g)
        want = enlarge(torch.nn.functional.avg_pool2d(e, j)*j, j)
        m = grain_mask(M, g, k).expand_as(x)
        assert_close(x[m], want[m], atol=1e-5)
    if k > 1:   # another grain in one cell changes the noise there only
        M2 = M.clone()
        M2[0,0,0] = (M2[0,0,0] + 1) % k
        s = 2**(k - 1)
        same = torch.equal
        y = share_noise(e, M2, k)
        assert not same(x[0, :, :s, :s], y[0, :, :s, :s])
        x[0, :, :s, :s] = y[0, :, :s, :s]
        assert_equal(x, y)

@many
@given(maps(), st.integers(0, 2**31))
def test_noise_of_an_image_does_not_depend_on_its_batch(km, seed):
    k,M = km
    def rngs():
        return [torch.Generator().manual_seed(seed + i) for i in range(len(M))]
    assert_equal(grain_noise(M, 2, k, rngs()), torch.cat([grain_noise(m[None], 2, k, [r]) for m,r in zip(M, rngs())]))

def test_noise_is_standard_normal_at_every_grain():
    for k in (1, 2, 3, 4):
        M = torch.randint(k, (4000, 2, 2), generator=torch.Generator().manual_seed(k))
        e = grain_noise(M, 1, k, torch.Generator().manual_seed(0))
        for c,g in zip(gather_codes(e, M, k), range(k)):
            v = c[enlarge(M == g, 2**g)[:, None]]
            se = len(v)**-.5
            assert abs(v.mean()) < 4*se and abs(v.std() - 1) < 4*se

@many
@given(maps(), st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_exact_ratio_meets_every_budget(km, rs):
    _,M = km
    rs = sorted(rs, reverse=True)
    E = torch.rand(M.shape, generator=torch.Generator().manual_seed(3)).round(decimals=1)    # with ties
    G = exact_ratio(E, rs)
    n = M[0].numel()
    check_map(G, len(rs) + 1)
    assert_close(shares(G, len(rs) + 1),
                 torch.tensor([[round(r*n)/n for r in rs]], dtype=torch.double).expand(len(M), -1))
    for i in range(len(rs)):   # no region with less entropy has a finer grain
        for e,g in zip(E, G):
            if (g > i).any() and (g <= i).any():
                assert e[g > i].min() >= e[g <= i].max()

def test_disturbing_rectangles_are_any():
    ("Every rectangle of the map, to its edges, in every grain; the map itself is left alone; "
     "without another image, inverting takes its turn")
    import itertools
    M = torch.full((2, 3), 1)
    seen,kinds = set(),[]
    for n in range(6000):
        D = disturb(M, 3, torch.Generator().manual_seed(n))
        at = (D != M).nonzero()
        if len(at) == 0:
            continue   # a rectangle of the grain that was there
        kinds.append(len(at))
        (t,l) = at.min(0).values.tolist()
        (b,r) = at.max(0).values.tolist()
        assert len(at) == (b - t + 1)*(r - l + 1) and len(set(D[D != M].tolist())) == 1
        seen.add((t, l, b, r, int(D[t, l])))
    assert seen == {(t, l, b, r, g) for t,b in itertools.combinations_with_replacement(range(2), 2)
                    for l,r in itertools.combinations_with_replacement(range(3), 2) for g in (0, 2)}
    M = torch.zeros(2, 3, dtype=torch.long)
    other = torch.tensor([[1, 0, 1], [0, 1, 0]])
    got = [disturb(M, 2, torch.Generator().manual_seed(n), other) for n in range(3000)]
    assert (abs(sum(torch.equal(g, other) for g in got)/3000 - 1/3) < .04 and
            abs(sum(torch.equal(disturb(M, 2, torch.Generator().manual_seed(n)), 1 - M)
                    for n in range(3000))/3000 - 2/3 - 1/3/18/2) < .05)

def test_ratios_of_training():
    rs = {how: [draw_ratio(torch.Generator().manual_seed(n), how) for n in range(4000)]
          for how in ('uniform', 'normal')}
    for how,v in rs.items():
        v = torch.tensor(v)
        assert (0 <= v.min() and v.max() <= 1 and
                abs((v == 0).float().mean() - .05) < .02 and
                abs((v == 1).float().mean() - .05) < .02 and
                abs(v.mean() - .5) < .02)
    def inner(how):
        return torch.tensor([r for r in rs[how] if 0 < r < 1])
    assert (abs(inner('uniform').std() - 12**-.5) < .01 and
            abs(inner('normal').std() - .2) < .02 and inner('normal').max() > .9)
    assert [draw_ratio(torch.Generator(), r) for r in (0, .25, 1)] == [0., .25, 1.]
    for bad in (-.01, 1.01):
        with pytest.raises(ValueError, match='lies in'):
            draw_ratio(torch.Generator(), bad)

def test_shares_of_disturbed_maps():
    from d2it_nb.calibration import Calibration
    E = torch.rand(64, 8, 8, generator=torch.Generator().manual_seed(0))
    cal = Calibration(8, 64).update(E)
    whole = grain_map(E[:1], [cal.threshold(.5)])[0]
    def share(**kw):
        return sum(not torch.equal(training_map(E[0], cal, 2, torch.Generator().manual_seed(n), .5,
                                                              other=lambda: E[1], **kw), whole)
                                 for n in range(1500))/1500
    assert abs(share() - .15) < .03 and share(p_disturb=0.) == 0 and share(p_disturb=1.) > .9
    other = grain_map(E[1:2], [cal.threshold(.5)])[0]
    assert any(torch.equal(training_map(E[0], cal, 2, torch.Generator().manual_seed(n), .5, 1., lambda: E[1]), other)
               for n in range(30))

def test_grains_are_two_unless_said():
    M = torch.tensor([[[0, 1]]])
    assert block_side(0) == 2 and block_side(1) == 1
    e = torch.randn(1, 2, 2, 4)
    assert torch.equal(share_noise(e, M), share_noise(e, M, 2)) and grain_noise(M, 2).shape == (1, 2, 2, 4)
    assert grain_noise(torch.tensor([[[0, 2, 1]]]), 5, 3, torch.Generator()).shape == (1, 5, 4, 12)
