"Schedules, times and variances against their formulas, written out once more in plain numbers."
import math
import pytest, torch
from d2it_nb.diffusion import (Diffusion, Flow, cosine_betas, grain_loss, per_grain_mean_loss, linear_betas, process,
                               reverse_variance, snr_weight)

def test_schedules():
    for T in (1000, 250):
        b = linear_betas(T)
        assert (len(b) == T and
                b[0] == pytest.approx(1e-4*1000/T) and
                b[-1] == pytest.approx(2e-2*1000/T) and
                b[1] - b[0] == pytest.approx((2e-2 - 1e-4)/(T - 1)*1000/T))
        def f(t):
            return math.cos((t/T + .008)/1.008*math.pi/2)**2
        want = [min(1 - f(t + 1)/f(t), .999) for t in range(T)]
        torch.testing.assert_close(cosine_betas(T), torch.tensor(want, dtype=torch.double))
        assert cosine_betas(T)[-1] == .999

def test_edges_of_a_schedule():
    for bad in ([.1], [0., .1], [.1, 1.], [.1, -.1]):
        with pytest.raises(ValueError, match='strictly between 0 and 1'):
            Diffusion(schedule=torch.tensor(bad))
    d = Diffusion(schedule=torch.tensor([.1, .2]))
    assert (d.T == 2 and
            d.coef(1) == pytest.approx(((.9*.8)**.5, (1 - .72)**.5)) and
            d.coef(-1) == (1., 0.) and not d.state_dict())
    for t in (-2, 2):
        with pytest.raises(ValueError, match='times run from -1'):
            d.coef(t)
    assert {Diffusion(schedule=torch.tensor([.1, .2])).draw_t(torch.Generator().manual_seed(n)).item()
            for n in range(40)} == {0, 1}

@pytest.mark.parametrize('power', [1, 1.5, 2, 3])
def test_times_of_sampling(power):
    d = Diffusion(1000)
    flow = Flow(1000)
    for n in (1, 2, 3, 7, 20, 50):
        ts = d.timesteps(n, power)
        want = [round((1 - i/(n - 1))**power*999) if n > 1 else 999 for i in range(n)]
        assert (len(ts) == n + 1 and ts[-1] == -1 and
                all(a > b for a,b in zip(ts, ts[1:])) and ts[0] == 999 and (n == 1 or ts[-2] == 0) and
                all(a == max(b, n - 1 - i) for i,(a,b) in enumerate(zip(ts, want))))
        assert (flow.timesteps(n, power) == pytest.approx([1000*(1 - i/n)**power for i in range(n + 1)]) and
                flow.timesteps(n, power)[-1] == 0)
    assert (d.timesteps(5, 2) == [999, 562, 250, 62, 0, -1] and
            Diffusion(schedule=torch.tensor([.1, .2, .3])).timesteps(3, 3) == [2, 1, 0, -1])
    for bad in (0, 1001):
        with pytest.raises(ValueError, match='between 1 and 1000'):
            d.timesteps(bad)
    assert d.timesteps(1000) == [*range(999, -1, -1), -1] and flow.timesteps(1) == [1000, 0]
    with pytest.raises(ValueError, match='power of at least 1'):
        d.timesteps(5, .99)
    with pytest.raises(ValueError, match='at least one sampling step'):
        flow.timesteps(0)

def test_variances_of_a_step():
    "β̃ = β(1-ᾱ_s)/(1-ᾱ_t), with β = 1 - ᾱ_t/ᾱ_s (Ho et al. 2020), for any two times"
    d = Diffusion()
    abar = (1 - linear_betas()).cumprod(0)
    for t,s in ((999, 998), (999, 0), (500, 100), (1, 0)):
        beta = 1 - (abar[t]/abar[s]).item()
        low,high = reverse_variance(d, t, s)
        assert (high == pytest.approx(math.log(beta)) and
                low == pytest.approx(math.log(beta*(1 - abar[s].item())/(1 - abar[t].item()))))
    f = Flow()
    a,b = .2,.4
    beta = .8**2 - (a/b)**2*.6**2
    assert reverse_variance(f, 800., 600.) == pytest.approx((math.log(beta*.6**2/.8**2), math.log(beta)))

def test_flow_in_numbers():
    f = Flow()
    x = torch.ones(2, 1, 1, 1)
    t = torch.tensor([250., 1000.])
    a,s = f.at(t, x)
    assert (a.flatten().tolist() == [.75, 0.] and
            s.flatten().tolist() == [.25, 1.] and f.coef(250.) == (.75, .25) and f.snr(t).tolist() == [9., 0.])
    assert (abs(sum(f.draw_t(torch.Generator().manual_seed(n)).item() for n in range(500))/500 - 500) < 40 and
            (process('flow').predict, process('cosine').predict, process().predict) == ('u', 'v', 'eps'))

def test_weights_of_times():
    for d,per in ((Diffusion(), lambda r: r),
                  (Diffusion(predict='v'), lambda r: r + 1),
                  (Diffusion(predict='x0'), lambda r: 1 + 0*r),
                  (Flow(), lambda r: (r.sqrt() + 1)**2)):
        t = torch.tensor([10, 400, 900]) if isinstance(d, Diffusion) else torch.tensor([10., 400., 900.])
        r = d.snr(t)
        torch.testing.assert_close(snr_weight(d, t, 5.), r.clamp(max=5.)/per(r))
        assert snr_weight(d, t).tolist() == [1.]*3
    with pytest.raises(ValueError, match='at least 0'):
        snr_weight(Diffusion(), torch.tensor([1]), -1.)

def test_votes_of_codes_and_grains():
    "A picture of one coarse cell (error 2) and three fine ones (errors 1): 13 codes, 2 grains"
    M = torch.tensor([[[0, 1], [1, 1]]])
    e2 = torch.ones(1, 3, 4, 4)
    e2[:, :, :2, :2] = 2
    assert (grain_loss(e2, M).tolist() == pytest.approx([(2 + 12)/13]) and
            per_grain_mean_loss(e2, M).tolist() == [1.5])
    assert per_grain_mean_loss(e2, torch.ones_like(M)).tolist() == pytest.approx([(4*2 + 12)/16])
