"""Schedules, losses and samplers: published sums, diffusers, closed forms, wrong input."""

from math import cos, pi, sqrt

import pytest
import torch
from torch import nn

from cltutor import diffusion
from cltutor.diffusion import add_noise, ddim, ddpm, denoising_mse, eps_loss, last, timesteps
from cltutor.errors import UserError


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramp(x, t):
    """The denoiser of diffusers' own tests."""
    return x * (t / (t + 1)).view(-1, 1, 1, 1)


RAMP = (torch.arange(768) / 768).reshape(3, 8, 8, 4).permute(3, 0, 1, 2).contiguous()
AB = diffusion.linear()


# Schedules


def test_linear_schedule_by_hand():
    # betas .1, .2, .3: products .9, .9 * .8, .9 * .8 * .7
    torch.testing.assert_close(diffusion.linear(3, 0.1, 0.3), torch.tensor([0.9, 0.72, 0.504]))
    assert AB.shape == (1000,) and AB.dtype == torch.float32
    for t, share in ((99, 0.897018), (499, 0.078587), (749, 0.003351), (999, 4.0e-5)):
        assert AB[t].item() == pytest.approx(share, abs=1e-6)


def test_cosine_schedule_by_hand():
    ab = diffusion.cosine(4, offset=0.0)
    # cos^2 of pi/8, pi/4, 3 pi/8; the last beta would be 1 and is 0.999
    expected = [cos(pi / 8 * i) ** 2 for i in (1, 2, 3)]
    torch.testing.assert_close(ab[:3], torch.tensor(expected))
    assert ab[3].item() == pytest.approx(0.001 * expected[2])


def test_zero_terminal_snr():
    ab = diffusion.zero_terminal_snr(AB)
    assert ab[-1] == 0 and ab[0] == pytest.approx(AB[0].item()) and (ab.diff() < 0).all()
    for t, share in ((99, 0.896378), (499, 0.076029), (749, 0.002690)):
        assert ab[t].item() == pytest.approx(share, abs=1e-6)


# Ranges and losses


def test_ranges_there_and_back():
    x = torch.tensor([0.0, 0.25, 1.0])
    assert diffusion.to_model(x).tolist() == [-1.0, -0.5, 1.0]
    assert diffusion.to_image(diffusion.to_model(x)).tolist() == x.tolist()
    assert diffusion.to_image(torch.tensor([-3.0, 2.0])).tolist() == [0.0, 1.0]


def test_add_noise_by_hand():
    ab = torch.tensor([0.64, 0.36])
    x, e = torch.full((2, 1, 1, 1), -1.0), torch.full((2, 1, 1, 1), 2.0)
    # .8 * -1 + .6 * 2 and .6 * -1 + .8 * 2
    x_t = add_noise(x, e, torch.tensor([0, 1]), ab)
    torch.testing.assert_close(x_t.flatten(), torch.tensor([0.4, 1.0]))


def test_loss_by_hand():
    ab, t = torch.tensor([0.64]), torch.zeros(2, dtype=torch.int64)
    x = torch.tensor([-1.0, 0.5]).view(2, 1, 1, 1).expand(2, 1, 1, 2)
    e = torch.tensor([[1.0, 2.0], [0.0, 1.0]]).view(2, 1, 1, 2)

    def nothing(x_t, t):
        return torch.zeros_like(x_t)

    def same(x_t, t):
        return x_t

    # Means of (1, 4) and (0, 1); against x_t = (-.2, .4) and (.4, 1) the squares differ
    assert eps_loss(nothing, x, e, t, ab, reduction="none").tolist() == [2.5, 0.5]
    assert eps_loss(nothing, x, e, t, ab).item() == 1.5
    distilled = eps_loss(nothing, x, e, t, ab, target=same, reduction="none")
    torch.testing.assert_close(distilled, torch.tensor([0.1, 0.58]))


def test_the_teacher_of_a_loss_gets_no_gradient():
    student, teacher = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1).eval()
    x, e = torch.rand(4, 1, 2, 2, generator=rng()) - 0.5, torch.randn(4, 1, 2, 2, generator=rng())
    loss = eps_loss(
        lambda x, t: student(x),
        x, e, torch.arange(4), AB,
        target=lambda x, t: teacher(x),
    )  # fmt: skip
    loss.backward()
    assert student.weight.grad.abs().sum() > 0 and teacher.weight.grad is None


def test_denoising_mse_by_bins():
    """A denoiser that errs by t / 100 at t has these errors, bin by bin."""
    x = torch.rand(2000, 1, 2, 2, generator=rng()) * 2 - 1
    drawn = {}

    def errs(x_t, t):
        a = AB[t].view(-1, 1, 1, 1)
        n = len(drawn.setdefault("t", []))
        drawn["t"].append(t)
        clean = x.split(500)[n % 4]
        return (x_t - a.sqrt() * clean) / (1 - a).sqrt() + (t / 100).view(-1, 1, 1, 1)

    mse = denoising_mse(errs, x, AB, rng(), bins=4)
    assert mse.shape == (4,)
    # The mean of (t / 100)^2 over 0..249, 250..499, ...
    expected = (torch.arange(1000) / 100).square().view(4, 250).mean(1)
    torch.testing.assert_close(mse, expected, rtol=0.1, atol=0)
    times = torch.cat(drawn["t"]).view(4, 2000)
    assert (times // 250 == torch.arange(4)[:, None]).all()


# Published sums


@pytest.mark.parametrize(("first", "total"), [(1e-4, 172.0067), (0.01, 149.8295)])
def test_ddim_has_the_published_sums(first, total):
    """diffusers, tests/schedulers/test_scheduler_ddim.py: leading, 10 steps, eta 0."""
    ab = diffusion.linear(first=first)
    x = last(ddim(ramp, RAMP, ab, 10, spacing="leading"))
    assert x.abs().sum().item() == pytest.approx(total, abs=1e-2)


def test_ddpm_has_the_published_sum():
    """diffusers, tests/schedulers/test_scheduler_ddpm.py: 1000 steps, fixed_small."""
    x = last(ddpm(ramp, RAMP, AB, 1000, rng(0)))
    assert x.abs().sum().item() == pytest.approx(258.9606, abs=1e-2)


# Against diffusers

# In double precision: 1 / sqrt(ab) multiplies the rounding of 32-bit floats by 158 at t = 999.
AB_64 = AB.double()
NOISE = torch.randn(4, 3, 8, 8, generator=rng(7), dtype=torch.float64)


def smear(x, t):
    """A denoiser that mixes pixels and sees images in x that leave [-1, 1]."""
    a = AB_64[t].view(-1, 1, 1, 1)
    x0 = 1.4 * torch.tanh(2 * x.roll(1, -1))
    return (x - a.sqrt() * x0) / (1 - a).sqrt()


def theirs(kind, denoiser, steps, spacing, ab=AB_64, draws=None, more=None, **config):
    """The images that a scheduler of diffusers ends with, and the times that it stops over."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed (extra dev)")
    scheduler = getattr(diffusers, kind)(timestep_spacing=spacing, **config)
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), ab, atol=2e-7, rtol=1e-4)
    scheduler.alphas_cumprod = ab
    scheduler.set_timesteps(steps)
    x = NOISE
    for t in scheduler.timesteps.tolist():
        eps = denoiser(x, torch.full((len(x),), t))
        x = scheduler.step(eps, t, x, generator=draws, **more or {}).prev_sample
    return x, scheduler.timesteps.tolist()


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("spacing", "steps"),
    [(name, steps) for name in ("leading", "trailing") for steps in (1, 2, 10, 50, 1000)]
    + [("leading", 3), ("leading", 300)],  # there t - T // S is the next t for every S
)
def test_ddim_equals_diffusers(spacing, steps, eta, clip):
    config = dict(more={"eta": eta}, clip_sample=clip)
    peer, times = theirs("DDIMScheduler", smear, steps, spacing, draws=rng(3), **config)
    assert timesteps(1000, steps, spacing) == times
    ours = last(ddim(smear, NOISE, AB_64, steps, rng(3), eta, spacing, clip))
    torch.testing.assert_close(ours, peer, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 10, 30, 1000])
def test_ddpm_equals_diffusers(spacing, steps, clip):
    """diffusers' DDPM, unlike its DDIM, steps along the list: so they agree for every spacing."""
    peer, times = theirs("DDPMScheduler", smear, steps, spacing, draws=rng(3), clip_sample=clip)
    assert timesteps(1000, steps, spacing) == times
    ours = last(ddpm(smear, NOISE, AB_64, steps, rng(3), spacing, clip))
    torch.testing.assert_close(ours, peer, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("steps", [5, 10, 1000])
def test_rederived_noise_equals_diffusers(steps, eta):
    more = {"eta": eta, "use_clipped_model_output": True}
    peer, _ = theirs("DDIMScheduler", smear, steps, "trailing", draws=rng(3), more=more)
    ours = last(ddim(smear, NOISE, AB_64, steps, rng(3), eta, rederive=True))
    torch.testing.assert_close(ours, peer, atol=1e-5, rtol=1e-5)
    plain = last(ddim(smear, NOISE, AB_64, steps, rng(3), eta))
    assert (ours - plain).abs().max() > 0.01


def test_clipping_is_met():
    """Without it the cases above would be equal for want of anything to clip."""
    for steps in (2, 10, 50):
        free, kept = (last(ddim(smear, NOISE, AB_64, steps, clip=clip)) for clip in (False, True))
        assert free.abs().max() > 1 and kept.abs().max() <= 1 and (free - kept).abs().max() > 0.1


@pytest.mark.parametrize("schedule", ["cosine", "zero terminal SNR"])
def test_other_schedules_equal_diffusers(schedule):
    """Where nothing of the image is left at the end, 0 is divided by 0: the sign of x0 remains."""
    if schedule == "cosine":
        ab, config = diffusion.cosine(), dict(beta_schedule="squaredcos_cap_v2")
    else:
        ab, config = diffusion.zero_terminal_snr(AB), dict(rescale_betas_zero_snr=True)
    peer, _ = theirs("DDIMScheduler", ramp, 10, "trailing", ab=ab.double(), **config)
    ours = last(ddim(ramp, NOISE, ab.double(), 10))
    torch.testing.assert_close(ours, peer, atol=1e-5, rtol=1e-5)


def along(denoiser, x, times):
    """DDIM in ten lines, eta 0, clipped: from each time of the list to the next."""
    for t, s in zip(times, [*times[1:], None], strict=True):
        a, b = AB_64[t], torch.ones(()) if s is None else AB_64[s]
        eps = denoiser(x, torch.full((len(x),), t))
        x0 = ((x - (1 - a).sqrt() * eps) / a.sqrt()).clamp(-1, 1)
        x = b.sqrt() * x0 + (1 - b).sqrt() * eps
    return x


LISTS = {
    ("linspace", 10): [999, 888, 777, 666, 555, 444, 333, 222, 111, 0],
    ("trailing", 3): [999, 666, 332],
    ("trailing", 7): [999, 856, 713, 570, 428, 285, 142],
    ("quadratic", 5): [800, 450, 200, 50, 0],
}


@pytest.mark.parametrize(("spacing", "steps"), LISTS)
def test_ddim_steps_along_the_list(spacing, steps):
    times = LISTS[spacing, steps]
    assert timesteps(1000, steps, spacing) == times
    ours = last(ddim(smear, NOISE, AB_64, steps, spacing=spacing))
    torch.testing.assert_close(ours, along(smear, NOISE, times), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("spacing", "steps"), [key for key in LISTS if key[0] != "quadratic"])
def test_where_diffusers_differs(spacing, steps):
    """Its DDIM goes from t to t - T // S, and tells the network the next t of the list."""
    peer, times = theirs("DDIMScheduler", smear, steps, spacing)
    assert times == LISTS[spacing, steps]
    arrivals = [t - 1000 // steps for t in times]
    assert arrivals[:-1] != times[1:]
    x = NOISE
    for t, s in zip(times, arrivals, strict=True):
        a, b = AB_64[t], torch.ones(()) if s < 0 else AB_64[s]
        eps = smear(x, torch.full((len(x),), t))
        x0 = ((x - (1 - a).sqrt() * eps) / a.sqrt()).clamp(-1, 1)
        x = b.sqrt() * x0 + (1 - b).sqrt() * eps
    torch.testing.assert_close(peer, x, atol=1e-5, rtol=1e-5)
    assert (peer - along(smear, NOISE, times)).abs().max() > 1e-3


def test_times_of_ones_own():
    times = [999, 400, 3]
    ours = last(ddim(smear, NOISE, AB_64, times))
    torch.testing.assert_close(ours, along(smear, NOISE, times), atol=1e-5, rtol=1e-5)
    way = ddpm(smear, NOISE, AB_64, times, rng())
    assert [t for t, _, _ in way] == times


def test_quadratic_drops_repeated_times():
    times = timesteps(1000, 200, "quadratic")
    assert len(times) < 200 and times == sorted(set(times), reverse=True)
    assert times[0] == 800 and times[-1] == 0


# Closed forms


MEAN, SPREAD = 0.3, 0.2


def gaussian(x, t):
    """The exact denoiser of images N(MEAN, SPREAD^2) in every pixel."""
    a = AB_64[t].view(-1, 1, 1, 1)
    return (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * SPREAD**2 + 1 - a)


@pytest.mark.parametrize("spacing", diffusion.SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 10, 1000])
def test_ddim_of_a_gaussian_in_closed_form(steps, spacing):
    """With v_t = ab_t SPREAD^2 + 1 - ab_t, a step multiplies x_t - sqrt(ab_t) MEAN by
    (sqrt(ab_s ab_t) SPREAD^2 + sqrt((1 - ab_s)(1 - ab_t))) / v_t."""
    times, a, factor = timesteps(1000, steps, spacing), AB_64, 1.0
    for t, s in zip(times, [*times[1:], None], strict=True):
        b = 1.0 if s is None else a[s].item()
        cross = sqrt(b * a[t]) * SPREAD**2 + sqrt((1 - b) * (1 - a[t]))
        factor *= cross / (a[t].item() * SPREAD**2 + 1 - a[t].item())
    expected = MEAN + factor * (NOISE - sqrt(a[times[0]]) * MEAN)
    ours = last(ddim(gaussian, NOISE, AB_64, steps, spacing=spacing, clip=False))
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
    if steps == 1000 and spacing != "quadratic":
        assert factor == pytest.approx(SPREAD, rel=0.02), "of many steps: the Gaussian itself"


def test_one_step_gives_the_mean_image():
    """From the end of the schedule, where x tells nearly nothing: E[x0 | x] is nearly E[x0]."""
    ours = last(ddim(gaussian, NOISE, AB_64, 1))
    torch.testing.assert_close(ours, torch.full_like(ours, MEAN), atol=2e-3, rtol=0)
    assert ours.std() < SPREAD / 100


@pytest.mark.parametrize("sampler", ["ddpm", "ddim, eta 1"])
def test_samplers_that_draw_have_the_right_variance(sampler):
    """Of a Gaussian: 1000 steps end with MEAN and SPREAD, up to 8,000 draws and the last step."""
    x = torch.randn(8000, 1, 1, 1, generator=rng(1), dtype=torch.float64)
    if sampler == "ddpm":
        x = last(ddpm(gaussian, x, AB_64, 1000, rng(2), clip=False))
    else:
        x = last(ddim(gaussian, x, AB_64, 1000, rng(2), eta=1.0, clip=False))
    assert x.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert x.std().item() == pytest.approx(SPREAD, rel=0.04)


@pytest.mark.parametrize("steps", [4, 50, 1000])
def test_ddim_at_eta_1_is_ddpm(steps):
    one = last(ddim(smear, NOISE, AB_64, steps, rng(2), eta=1.0, clip=False))
    other = last(ddpm(smear, NOISE, AB_64, steps, rng(2), clip=False))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_noise_and_back_in_one_step():
    x = torch.rand(2, 1, 4, 4, generator=rng()) * 2 - 1
    e = torch.randn(x.shape, generator=rng(1))
    x_t = add_noise(x, e, torch.full((2,), 999), AB)
    torch.testing.assert_close(last(ddim(lambda x, t: e, x_t, AB, 1)), x, atol=1e-4, rtol=0)


def test_what_a_sampler_shows_on_its_way():
    way = list(ddim(smear, NOISE, AB_64, 4))
    assert [t for t, _, _ in way] == [999, 749, 499, 249]
    assert torch.equal(way[-1][1], way[-1][2]), "the last x is the last x0"
    assert all(x0.abs().max() <= 1 for _, _, x0 in way)
    assert all(not x.requires_grad for _, x, _ in way)


def test_draws_come_from_the_generator_alone():
    before = torch.random.get_rng_state()
    first = last(ddpm(smear, NOISE, AB_64, 10, rng(5)))
    torch.testing.assert_close(first, last(ddpm(smear, NOISE, AB_64, 10, rng(5))), atol=0, rtol=0)
    assert not torch.equal(first, last(ddpm(smear, NOISE, AB_64, 10, rng(6))))
    denoising_mse(smear, NOISE.clamp(-1, 1), AB_64, rng())
    assert torch.equal(before, torch.random.get_rng_state())


def test_no_gradient_and_no_state_is_left_behind():
    """A sampler turns gradients off for its own lines alone, also between its steps."""
    way = ddim(smear, NOISE, AB_64, 3)
    next(way)
    assert torch.is_grad_enabled()
    way.close()
    assert torch.is_grad_enabled()


# Wrong input


def test_wrong_input_is_refused():
    noise = torch.randn(2, 1, 4, 4, generator=rng())
    ramp_net = nn.Conv2d(1, 1, 1)
    x, t = torch.rand(2, 1, 4, 4, generator=rng()), torch.zeros(2, dtype=torch.int64)
    for call, says in (
        (lambda: timesteps(1000, 0), "from 1 to 1000"),
        (lambda: timesteps(1000, 1001), "from 1 to 1000"),
        (lambda: timesteps(1000, 10, "even"), "trailing, leading, linspace, quadratic"),
        (lambda: last(ddim(ramp, noise, AB, 1001)), "from 1 to 1000"),
        (lambda: last(ddpm(ramp, noise, AB, 0, rng())), "from 1 to 1000"),
        (lambda: last(ddim(ramp, noise, AB, 5, spacing="odd")), "choose one of"),
        (lambda: last(ddim(ramp_net, noise, AB, 5)), "Conv2d is in train mode"),
        (lambda: last(ddpm(ramp_net, noise, AB, 5, rng())), "Conv2d is in train mode"),
        (lambda: last(ddim(ramp, noise, AB, 5, eta=0.5)), "with a generator"),
        (lambda: last(ddim(ramp, noise, AB, 5, rng(), eta=1.5)), "between 0 and 1"),
        (lambda: last(ddim(ramp, noise, AB, [5, 9])), "fall from at most 999"),
        (lambda: last(ddim(ramp, noise, AB, [1000, 9])), "fall from at most 999"),
        (lambda: last(ddim(ramp, noise, AB, [9, -1])), "fall from at most 999"),
        (lambda: last(ddpm(ramp, noise, AB, [], rng())), "fall from at most 999"),
        (lambda: denoising_mse(ramp_net, -x, AB, rng()), "train mode"),
        (lambda: eps_loss(ramp, -x, noise, t, AB, target=ramp_net), "train mode"),
        (lambda: add_noise(x, noise, t, AB), "through to_model"),
        (lambda: add_noise(-255 * x, noise, t, AB), "through to_model"),
        (lambda: add_noise(3 * x - 0.5, noise, t, AB), "through to_model"),
        (lambda: eps_loss(ramp, x, noise, t, AB), "through to_model"),
        (lambda: denoising_mse(ramp, x, AB, rng()), "through to_model"),
        (lambda: diffusion.to_model(-x), r"takes images in \[0, 1\]"),
        (lambda: diffusion.to_model(2 * x), r"takes images in \[0, 1\]"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=says):
            call()
