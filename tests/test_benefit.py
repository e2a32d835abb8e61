"Benefits, and maps that grow with their budget: for any errors, grains and scores."
import itertools
import torch
from hypothesis import given, settings, strategies as st
from d2it_nb.benefit import best_first, spending, savings, step_costs
from d2it_nb.calibration import Calibration, expected_budget
from d2it_nb.core import assert_close, assert_equal
from d2it_nb.grain import budget, check_map, exact_ratio, grain_map
from d2it_nb.order_transformer import as_steps, cut_order
from common import train

many = settings(max_examples=60, deadline=None)

@st.composite
def errors(draw):
    "Errors of some regions at 2 … 4 grains, in float64; fine codes may do harm, and regions may tie"
    k = draw(st.integers(2, 4))
    n,h,w = (draw(st.integers(1, most)) for most in (3, 4, 4))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    found = torch.rand(n, h, w, k, generator=rng, dtype=torch.double)*100
    return found.round(decimals=draw(st.integers(-1, 3)))

@many
@given(errors(), st.floats(.001, 50))
def test_a_price_for_a_code_gives_each_region_its_cheapest_grain(found, price):
    k = found.shape[-1]
    cost = found + price*4.**torch.arange(k)
    M = grain_map(savings(found), [price]*(k - 1))
    assert_close(cost.gather(-1, M[..., None])[..., 0], cost.amin(-1))

@many
@given(errors())
def test_no_other_spending_of_as_many_codes_leaves_less(found):
    "Of the maps that a price can give; between them lie those that stop within a step"
    found = found[:1, :2, :2].flatten(0, 2)
    n,k = found.shape
    ways = torch.tensor(list(itertools.product(range(k), repeat=n)))
    left = found[torch.arange(n), ways].sum(1)
    codes = (4**ways).sum(1)
    saved = savings(found[None, None])
    for least in saved[saved > 0].unique():           # beyond that, more codes do harm
        M = grain_map(saved, [least*(1 - 1e-9)]*(k - 1))[0, 0]
        mine = found[torch.arange(n), M].sum()
        assert mine <= left[codes <= (4**M).sum()].min() + 1e-6

@many
@given(errors(), st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_more_budget_adds_and_takes_nothing_away(found, budgets):
    k = found.shape[-1]
    saved = savings(found)
    largest = step_costs(k)[-1]/sum(step_costs(k))/found[0, ..., 0].numel()
    before = torch.zeros(found.shape[:3], dtype=torch.long)
    for wanted in sorted(budgets):
        M = best_first(saved, wanted)
        check_map(M, k)
        assert (M >= before).all()
        assert (budget(M, k) - wanted).abs().max() <= largest + 1e-6
        before = M
    assert_equal(best_first(saved, 0.).amax(), torch.tensor(0))
    assert_equal(best_first(saved, 1.).amin(), torch.tensor(k - 1))
    if k == 2:
        few = saved[..., 0].numel()//len(saved)
        for i in range(few + 1):
            assert_equal(best_first(saved, i/few), exact_ratio(saved[..., 0], i/few))
    assert (spending(saved).diff(dim=-1) > 0).all()

@many
@given(st.integers(2, 4), st.booleans(), st.booleans(), st.lists(st.floats(0, 1), min_size=2, max_size=6),
       st.integers(0, 2**31))
def test_cuts_of_one_order_are_nested(k, each_step, exact, ratios, seed):
    rng = torch.Generator().manual_seed(seed)
    q = torch.rand(2, 4, 5, k - 1 if each_step else 1, generator=rng)
    assert (as_steps(q, k).diff(dim=-1) <= 0).all()
    before = 0
    for r in sorted(ratios):
        M = cut_order(q, torch.full((2,), r), k, exact)
        check_map(M, k)
        assert (M >= before).all()
        if exact:
            assert (budget(M, k) - r).abs().max() <= step_costs(k)[-1]/sum(step_costs(k))/20 + 1e-6
        before = M

@many
@given(st.integers(2, 4), st.floats(.05, .95))
def test_a_ratio_costs_the_same_by_either_kind_of_scores(k, r):
    "One score cut at r, r², …, or a score a step cut at one height: as many codes over the data"
    rng = torch.Generator().manual_seed(0)
    one = torch.rand(200, 8, 8, generator=rng)
    entropy = Calibration(8, 64).update(one)
    each = one[..., None]*torch.rand(200, 8, 8, k - 1, generator=rng)
    each = each.sort(-1, descending=True).values
    steps = Calibration(8, 64, criterion='benefit', k=k)
    steps.update(each if k > 2 else each[..., 0])
    for E,cal in ((one, entropy), (each if k > 2 else each[..., 0], steps)):
        M = grain_map(E, cal.thresholds_at(r, k))
        assert abs(budget(M, k).mean() - expected_budget(r, k)) < .01

def test_two_ranks_choose_the_same_regions(tmp_path):
    "Thresholds of a batch are those of all ranks' pictures together"
    flags = ('--criterion', 'benefit', '--benefit_start', 2, '--w_gan', 0, '--lr', 1e-4, '--steps', 6)
    one = train('dvae', tmp_path/'one', *flags)
    two = train('dvae', tmp_path/'two', *flags, ranks=2)
    torch.testing.assert_close(torch.tensor(two), torch.tensor(one), rtol=2e-5, atol=0)
