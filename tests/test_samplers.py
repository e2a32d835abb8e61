("One step of each sampler against its published formula, written out once more; "
 "guidance, known codes and restarts at their edges.")
import math
import pytest, torch
from d2it_nb.diffusion import Diffusion, fresh_noise, linear_betas
from d2it_nb.grain import block_mean, grain_noise
from d2it_nb.samplers import autoguided, bind, ddim, ddpm, dpmpp, guided, heun, keep_known, last, restart

M = torch.tensor([[[0, 1], [1, 0]], [[1, 1], [0, 0]]])
X = grain_noise(M, 3, 2, torch.Generator().manual_seed(0))
E = grain_noise(M, 3, 2, torch.Generator().manual_seed(1))
ABAR = (1 - linear_betas()).cumprod(0)
def says(x, t, M):
    return E                                                   # a model of one opinion
def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
def x0_at(x, t):
    return (x - (1 - ABAR[t]).sqrt().float()*E)/ABAR[t].sqrt().float()

@pytest.mark.parametrize('t,s', [(999, 998), (700, 300), (1, 0)])
def test_a_step_of_ddpm(t, s):
    "Posterior of Ho et al. 2020, Eq. 7, for any two times"
    at,as_ = ABAR[t].item(),ABAR[s].item()
    beta = 1 - at/as_
    step, = ddpm(says, X, M, times=[t, s], generator=torch.Generator().manual_seed(5))
    noise = grain_noise(M, 3, 2, torch.Generator().manual_seed(5))
    mean = (math.sqrt(as_)*beta*x0_at(X, t) + math.sqrt(at/as_)*(1 - as_)*X)/(1 - at)
    close(step.x, mean + math.sqrt(beta*(1 - as_)/(1 - at))*noise)
    assert step.t == t
    close(step.x0, x0_at(X, t))
    close(step.eps, E)
    # the model's own variance: between the two, on a log scale
    for v,var in ((-1., beta*(1 - as_)/(1 - at)), (1., beta), (0., math.sqrt(beta*beta*(1 - as_)/(1 - at)))):
        step, = ddpm(lambda x, t, M: torch.cat([E, torch.full_like(E, v)], 1), X, M, times=[t, s],
                     generator=torch.Generator().manual_seed(5))
        close(step.x, mean + math.sqrt(var)*noise)

def test_the_last_step_is_what_the_model_believes():
    for f in (ddpm, ddim, dpmpp):
        step, = f(says, X, M, times=[400, -1], generator=torch.Generator())
        close(step.x, x0_at(X, 400))

@pytest.mark.parametrize('t,s', [(999, 998), (700, 300), (1, 0)])
def test_a_step_of_ddim(t, s):
    step, = ddim(says, X, M, times=[t, s])
    close(step.x, ABAR[s].sqrt().float()*x0_at(X, t) + (1 - ABAR[s]).sqrt().float()*E)
    for a,b in zip(ddim(says, X, M, steps=7, eta=1., generator=torch.Generator().manual_seed(2)),
                   ddpm(says, X, M, steps=7, generator=torch.Generator().manual_seed(2)), strict=True):
        close(a.x, b.x)      # η = 1 is DDPM
    half, = ddim(says, X, M, times=[t, s], eta=.5, generator=torch.Generator().manual_seed(5))
    sd = .5*math.sqrt((1 - ABAR[t]/ABAR[s]).item()*((1 - ABAR[s])/(1 - ABAR[t])).item())
    close(half.x,
          ABAR[s].sqrt().float()*x0_at(X, t) + math.sqrt((1 - ABAR[s]).item() - sd**2)*E +
          sd*grain_noise(M, 3, 2, torch.Generator().manual_seed(5)))
    for bad in (-.1, 1.1):
        with pytest.raises(ValueError, match='eta lies in'):
            next(ddim(says, X, M, eta=bad))

def test_steps_of_dpmpp():
    "Lu et al. 2022, Algorithm 2: the first step is first order, the next looks back"
    def model(x, t, M):
        return E*(1 + t/1000)
    def lam(t):
        return .5*math.log(ABAR[t]/(1 - ABAR[t]))
    def x0(x, t):
        return (x - (1 - ABAR[t]).sqrt().float()*model(x, t, M))/ABAR[t].sqrt().float()
    def sig(t):
        return (1 - ABAR[t]).sqrt().item()
    def al(t):
        return ABAR[t].sqrt().item()
    a,b,c = dpmpp(model, X, M, times=[900, 500, 200, -1])
    h1,h2 = lam(500) - lam(900),lam(200) - lam(500)
    x1 = sig(500)/sig(900)*X - al(500)*(math.exp(-h1) - 1)*x0(X, 900)
    close(a.x, x1)
    r = h1/h2
    D = (1 + 1/(2*r))*x0(x1, 500) - 1/(2*r)*x0(X, 900)
    x2 = sig(200)/sig(500)*x1 - al(200)*(math.exp(-h2) - 1)*D
    close(b.x, x2)
    close(c.x, x0(x2, 200))
    close(last(dpmpp(model, X, M, times=[900, 500, 200, -1])), c.x)
    assert ([s.t for s in dpmpp(says, X, M, steps=5)] == Diffusion().timesteps(5, 2)[:-1] and
            len(list(ddim(says, X, M))) == 50 and
            len(list(dpmpp(says, X, M))) == 20)

def test_steps_of_heun():
    "dx/dt = u(x, t): a slope that grows with the time is walked exactly; one look at the last step"
    looks = []
    def model(x, t, M):
        looks.append(t)
        return E*(1 + 2*t/1000)
    a,b = heun(model, X, M, times=[1000., 500., 0.])
    close(a.x, X - .5*E*(3 + 2)/2)
    close(b.x, a.x - .5*E*2)
    assert looks == [1000., 500., 500.]
    assert len(list(heun(model, X, M))) == 25
    with pytest.raises(ValueError, match='heun follows the velocity'):
        next(heun(model, X, M, Diffusion()))

def test_fresh_noise():
    def g(n):
        return torch.Generator().manual_seed(n)
    one = torch.cat(list(fresh_noise(M, 3, 2, g(4), 3)))
    h = g(4)
    assert torch.equal(one, torch.cat([grain_noise(M, 3, 2, h) for _ in range(3)]))
    two = list(fresh_noise(M, 3, 2, [g(1), g(2)], 2))
    assert (len(two) == 2 and
            all(torch.equal(torch.cat([w[i:i + 1] for w in two]),
                            torch.cat(list(fresh_noise(M[i:i + 1], 3, 2, [g(i + 1)], 2))))
                for i in (0, 1)) and
            len(list(fresh_noise(M, 3, 2, None, 2))) == 2)
    with pytest.raises(ValueError, match='3 generators for 2 images'):
        next(fresh_noise(M, 3, 2, [g(0)]*3, 1))

class Net:
    "Says its label, as many times as there are channels; writes down what it is asked"
    num_classes = 9
    def __init__(self):
        self.asked = []
    def __call__(self, x, t, y, M, more=None):
        self.asked.append((len(x), t.tolist(), y.tolist(), len(M), None if more is None else more.tolist()))
        return y.float().view(-1, 1, 1, 1).expand_as(x)

def test_guidance():
    y,net = torch.tensor([1, 2]),Net()
    assert bind(net, y)(X, 5, M)[:, 0, 0, 0].tolist() == [1, 2] and net.asked[-1] == (2, [5, 5], [1, 2], 2, None)
    for scale,want in ((1, [1, 2]), (3., [9 + 3*(1 - 9), 9 + 3*(2 - 9)])):
        assert guided(net, y, scale)(X, 5, M)[:, 0, 0, 0].tolist() == want
    assert net.asked[-2][0] == 2 and net.asked[-1][:4] == (4, [5]*4, [1, 2, 9, 9], 4)
    m = guided(net, y, 2., null=0, interval=(100, 200), channels=1, more=torch.tensor([7, 8]))
    out = m(X, 100, M)
    assert (out[:, 0, 0, 0].tolist() == [2, 4] and
            out[:, 1:].amax((1, 2, 3)).tolist() == [1, 2] and
            net.asked[-1][4] == [7, 8, 7, 8])
    for t in (99, 201):
        assert m(X, t, M)[:, 0, 0, 0].tolist() == [1, 2] and net.asked[-1][0] == 2
    assert m(X, 200, M)[:, 0, 0, 0].tolist() == [2, 4]
    class D(Net):
        def __call__(self, *a):
            return torch.cat([super().__call__(*a)]*2, 1)
    # variance channels are never guided
    out = guided(D(), y, 3.)(X, 5, M)
    assert out[:, 2, 0, 0].tolist() == [-15, -12] and out[:, 3, 0, 0].tolist() == [1, 2]

def test_guidance_by_a_weak_model():
    def strong(x, t, M):
        return torch.full((2, 6, 4, 4), 5.)
    def weak(x, t, M):
        return torch.full((2, 6, 4, 4), 3.)
    f = autoguided(strong, weak, 2.5, (10, 20))
    for t,want in ((9, 5.), (10, 8.), (20, 8.), (21, 5.)):
        out = f(X, t, M)
        assert out[0, 2, 0, 0] == want and out[0, 3, 0, 0] == 5.
    assert (autoguided(strong, weak)(X, 0, M)[0, 0, 0, 0] == 7. and
            autoguided(strong, None, 1)(X, 0, M)[0, 0, 0, 0] == 5.)

def test_known_codes_are_followed():
    region = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    region[0, 0, :2] = True
    d = Diffusion()
    seen = []
    f = keep_known(lambda x, t, M: seen.append(x) or torch.cat([E, 0*E], 1), X, E, region, d)
    out = f(torch.full_like(X, 9.), 300, M)
    known = ABAR[300].sqrt().float()*X + (1 - ABAR[300]).sqrt().float()*E
    r = region.expand_as(X)
    assert (seen[0][r] == 9).all()
    close(seen[0][~r], known[~r])
    close(out[:, :3][r], E[r])
    close(out[:, :3][~r], ((9 - ABAR[300].sqrt().float()*X)/(1 - ABAR[300]).sqrt().float())[~r])
    assert out.shape == (2, 6, 4, 4)

def test_restarts():
    d = Diffusion()
    nodes = d.timesteps(20)
    for strength,walk in ((0., 0), (.01, 1), (.5, 10), (.26, 5), (1., 20)):
        x,times = restart(X, M, E, d, strength)
        assert times == nodes[20 - walk:]
        a,s = d.coef(times[0])
        close(x, a*X + s*E)
    x,_ = restart(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(3)), M, E, d, 0.)
    close(x, block_mean(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(3)), M, 2))
    assert restart(X, M, E, d, 1., 6, 2.)[1] == d.timesteps(6, 2.) and last([], 3) == 3
    for bad in (-.1, 1.1):
        with pytest.raises(ValueError, match='a strength lies in'):
            restart(X, M, E, d, bad)
