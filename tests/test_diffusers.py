("Our samplers against diffusers' schedulers in double precision: the same model, the same noise. "
 "As shipped, with their float32 tables, they agree to 1e-5; with these tables in double precision, to 1e-10.")
import numpy as np, pytest, torch
from d2it_nb.diffusion import Diffusion, Flow, fresh_noise, linear_betas
from d2it_nb.samplers import ddim, ddpm, dpmpp, heun

diffusers = pytest.importorskip('diffusers')
LINEAR = dict(beta_start=1e-4, beta_end=2e-2, beta_schedule='linear', num_train_timesteps=1000)
M = torch.ones(2, 4, 4).long()                                             # all fine: one place, one code
SHAPE = (2, 3, 8, 8)
both = pytest.mark.parametrize('exact,atol', [(True, 1e-10), (False, 1e-5)])

class Stay(torch.Tensor):
    "Some schedulers cast what they are given to float32; this stays what it is"
    def to(self, *args, **kw):
        return self

def start():
    x = torch.randn(SHAPE, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    return x.as_subclass(Stay)
def model(diff): # x0 ~ N(.3, .5²): a model that depends on x and t
    def f(x, t, M):
        a,s = diff.coef(t)
        return diff.as_prediction(.3 + a*.25/(a**2*.25 + s**2)*(x - a*.3), x, t)
    return f
def rng():
    return torch.Generator().manual_seed(5)

def exact_tables(s):
    "Their float32 tables, in double precision"
    s.betas = linear_betas()
    s.alphas = 1 - s.betas
    s.alphas_cumprod = s.alphas.cumprod(0)
    s.one = s.final_alpha_cumprod = torch.ones((), dtype=torch.double)

def walk(s, f, convert=int, **kw):
    "Their loop: every x"
    x,xs = start(),[]
    for t in s.timesteps:
        x = s.step(f(x, convert(t), M), t, x, **kw).prev_sample
        xs.append(x)
    return xs

def agree(ours, theirs, atol):
    assert max((o.x - x).abs().max().item() for o,x in zip(ours, theirs, strict=True)) <= atol

@both
@pytest.mark.parametrize('steps', [10, 50, 250])
def test_ddim(steps, exact, atol):
    s = diffusers.DDIMScheduler(**LINEAR, clip_sample=False, set_alpha_to_one=True)
    s.set_timesteps(steps)
    if exact:
        exact_tables(s)
    times = [*map(int, s.timesteps), -1]                                   # 'leading' spacing: multiples of 1000/steps
    agree(ddim(model(Diffusion()), start(), M, times=times), walk(s, model(Diffusion())), atol)

@both
@pytest.mark.parametrize('predict,name', [('x0', 'sample'), ('v', 'v_prediction')])
def test_ddim_predicting_something_else(predict, name, exact, atol):
    s = diffusers.DDIMScheduler(**LINEAR, clip_sample=False, set_alpha_to_one=True, prediction_type=name)
    s.set_timesteps(50)
    if exact:
        exact_tables(s)
    d = Diffusion(predict=predict)
    agree(ddim(model(d), start(), M, d, times=[*map(int, s.timesteps), -1]), walk(s, model(d)), atol)

@both
@pytest.mark.parametrize('eta', [.3, 1.])
def test_ddim_with_noise(eta, exact, atol, monkeypatch):
    s = diffusers.DDIMScheduler(**LINEAR, clip_sample=False, set_alpha_to_one=True)
    s.set_timesteps(50)
    if exact:
        exact_tables(s)
    noise = iter([*fresh_noise(M, 3, 2, rng(), 49), torch.zeros(SHAPE)])
    monkeypatch.setattr('diffusers.schedulers.scheduling_ddim.randn_tensor', lambda *a, **kw: next(noise).double())
    agree(ddim(model(Diffusion()), start(), M, times=[*map(int, s.timesteps), -1], generator=rng(), eta=eta),
          walk(s, model(Diffusion()), eta=eta), atol)

@both
@pytest.mark.parametrize('steps', [1000, 250, 20])
@pytest.mark.parametrize('learned', [False, True])
def test_ddpm(learned, steps, exact, atol, monkeypatch):
    s = diffusers.DDPMScheduler(**LINEAR, clip_sample=False,
                                variance_type='learned_range' if learned else 'fixed_small')
    times = Diffusion().timesteps(steps)
    s.set_timesteps(timesteps=times[:-1])    # our spacing, given to them
    if exact:
        exact_tables(s)
    noise = fresh_noise(M, 3, 2, rng(), steps - 1)
    monkeypatch.setattr('diffusers.schedulers.scheduling_ddpm.randn_tensor', lambda *a, **kw: next(noise).double())
    f = model(Diffusion())
    if learned:
        def f(x, t, M, eps=f):
            return torch.cat([eps(x, t, M), torch.sin(7*x)], 1)
    # what is rounded in their tables adds up: 1.1e-4 after 1000 steps
    atol = atol if exact else max(atol, 1.5e-7*steps)
    agree(ddpm(f, start(), M, steps=steps, generator=rng()), walk(s, f), atol)

@both
@pytest.mark.parametrize('steps', [8, 20, 50])
def test_dpmpp(steps, exact, atol):
    s = diffusers.DPMSolverMultistepScheduler(**LINEAR, algorithm_type='dpmsolver++', solver_order=2,
                                              solver_type='midpoint', final_sigmas_type='zero')
    s.set_timesteps(steps)
    times = [*map(int, s.timesteps), -1]
    if exact:
        abar = (1 - linear_betas()).cumprod(0)[times[:-1]]
        s.sigmas = torch.cat([((1 - abar)/abar).sqrt(), torch.zeros(1).double()])
    agree(dpmpp(model(Diffusion()), start(), M, times=times), walk(s, model(Diffusion())), atol)

@both
@pytest.mark.parametrize('steps', [5, 30])
def test_flow_euler_and_heun(steps, exact, atol):
    for f,cls in ((ddim, diffusers.FlowMatchEulerDiscreteScheduler), (heun, diffusers.FlowMatchHeunDiscreteScheduler)):
        s = cls(num_train_timesteps=1000)
        s.set_timesteps(steps)
        times = np.linspace(1000, 1, steps).tolist() + [0.]
        if exact:
            t = torch.tensor(times, dtype=torch.double)
            s.timesteps,s.sigmas = ((t[:-1], t/1000) if f is ddim else
                                    (torch.cat([t[:1], t[1:-1].repeat_interleave(2)]),
                                     torch.cat([t[:1], t[1:-1].repeat_interleave(2), t[-1:]])/1000))
        xs = walk(s, model(Flow()), float)
        if f is heun:
            xs = [*xs[1::2], xs[-1]]   # they return the look ahead as a step of its own
        agree(f(model(Flow()), start(), M, Flow(), times=times), xs, atol)
