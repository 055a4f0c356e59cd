"""Schedules, losses and samplers: published sums, diffusers, closed forms, wrong input."""

from math import cos, pi

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
