"""Diffusion: noise schedules, the loss of a noise predictor, and samplers of many steps or few.

A schedule is a tensor `ab` of n_timesteps numbers, ab[t] = prod_{s <= t} (1 - beta_s): the share of
the image in the variance of x_t. A denoiser is called as `denoiser(x_t, t)`, x_t (B, C, H, W) and t
(B,) int64 from 0 to n_timesteps - 1, and gives the noise eps that it sees in x_t, (B, C, H, W).
Images are in [-1, 1] in here: `to_model` and `to_image` are the only places where ranges change.

A sampler is a generator: it starts from the noise that it is given and yields (t, x, x0) after
every step, x the images on their way and x0 what they would be if the way ended here. `last` runs
it to its end. Whatever is drawn comes from the generator `rng`, on the CPU.

Equations: DDPM is Ho et al. 2020, DDIM Song et al. 2021. Cosine schedule: Nichol & Dhariwal 2021;
spacing and the last signal-to-noise ratio (SNR): Lin et al. 2024.
"""

from collections import deque
from collections.abc import Callable, Iterator
from math import sqrt

import torch
from torch import Tensor, nn

from cltutor.errors import UserError

Denoiser = Callable[[Tensor, Tensor], Tensor]
SPACINGS = ("trailing", "leading", "linspace", "quadratic")
LEAST = 1e-20  # instead of ab = 0 in a division: clipping then leaves the sign of x0


def linear(n_timesteps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """ab (n_timesteps,) of betas that grow evenly (DDPM, section 4)."""
    beta = torch.linspace(first, last, n_timesteps, dtype=torch.float64)
    return (1 - beta).cumprod(0).float()


def cosine(n_timesteps: int = 1000, offset: float = 0.008) -> Tensor:
    """ab (n_timesteps,), a squared cosine (Nichol & Dhariwal, Eq. 17) of betas of at most 0.999."""
    time = torch.linspace(0, 1, n_timesteps + 1, dtype=torch.float64)
    f = ((time + offset) / (1 + offset) * torch.pi / 2).cos().square()
    return (f[1:] / f[:-1]).clamp(min=1 - 0.999).cumprod(0).float()


def zero_terminal_snr(ab: Tensor) -> Tensor:
    """The schedule stretched until nothing of the image is left at its end (Lin, Algorithm 1)."""
    root = ab.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()


def to_model(x: Tensor) -> Tensor:
    """Images in [0, 1], as the kit has them, for the denoiser: in [-1, 1]."""
    low, high = torch.stack(x.aminmax()).tolist()
    if low < 0 or high > 1:
        raise UserError(f"to_model takes images in [0, 1]; these are in [{low:.4g}, {high:.4g}].")
    return 2 * x - 1


def to_image(x: Tensor) -> Tensor:
    """What a sampler gives, in [-1, 1], as images in [0, 1]; what lies outside is cut off."""
    return ((x + 1) / 2).clamp(0, 1)


def add_noise(x: Tensor, e: Tensor, t: Tensor, ab: Tensor) -> Tensor:
    """x_t ~ q(x_t | x): images x (B, C, H, W) with noise e of the same shape at t (B,), DDPM Eq. 4.

    Raises:
        UserError: x is not in [-1, 1], or has nothing below 0, as images in [0, 1].
    """
    low, high = torch.stack(x.aminmax()).tolist()
    if low >= 0 or low < -1 or high > 1:
        raise UserError(
            f"diffusion takes images in [-1, 1] and these are in [{low:.4g}, {high:.4g}]: "
            "noise would be added around the wrong mean. Pass them through to_model first."
        )
    a = ab.to(x.device)[t].view(-1, *[1] * (x.dim() - 1))
    return a.sqrt() * x + (1 - a).sqrt() * e


def eps_loss(
    denoiser: Denoiser,
    x: Tensor,
    e: Tensor,
    t: Tensor,
    ab: Tensor,
    target: Denoiser | None = None,
    reduction: str = "mean",
) -> Tensor:
    """|denoiser(x_t, t) - e|^2, mean over the pixels, and over the batch (DDPM Eq. 14).

    Args:
        x: images in [-1, 1], (B, C, H, W), as `add_noise` takes them.
        e, t: noise (B, C, H, W) and time (B,) for each image.
        target: a frozen teacher; its answer at (x_t, t) then takes the place of e.
        reduction: "mean", or "none" for the loss of each image, (B,).
    """
    x_t = add_noise(x, e, t, ab)
    if target is not None:
        _refuse_training(target)
        with torch.no_grad():
            e = target(x_t, t)
    loss = (denoiser(x_t, t) - e).square().flatten(1).mean(1)
    return loss if reduction == "none" else loss.mean()


@torch.no_grad()
def denoising_mse(
    denoiser: Denoiser, x: Tensor, ab: Tensor, rng: torch.Generator, bins: int = 10
) -> Tensor:
    """`eps_loss` on images x (N, C, H, W) in [-1, 1], one value per bin of t: (bins,), on the CPU.

    Every image is noised once in every bin, at a t drawn evenly from it; the first bin is that of
    the least noise. With held-out real images this sees a loss of denoising that no sample shows.
    """
    _refuse_training(denoiser)
    means = []
    for b in range(bins):
        first, end = b * len(ab) // bins, (b + 1) * len(ab) // bins
        t = torch.randint(first, end, (len(x),), generator=rng).to(x.device)
        e = torch.randn(x.shape, generator=rng).to(x.device)
        parts = zip(x.split(500), e.split(500), t.split(500), strict=True)
        loss = torch.cat([eps_loss(denoiser, *part, ab, reduction="none") for part in parts])
        means.append(loss.mean())
    return torch.stack(means).cpu()


def timesteps(n_timesteps: int, steps: int, spacing: str = "trailing") -> list[int]:
    """Where a sampler of `steps` steps stops over, the noisiest first.

    "trailing" begins at the very end, where training saw nearly pure noise; "leading" ends at 0 and
    leaves the noisiest part out; "linspace" has both ends (Lin, table 2). "quadratic" is densest at
    little noise (DDIM, appendix D.2; up to 0.8 n_timesteps, as in its code). It has fewer steps
    than asked for where several of them fall on one t.
    """
    if not 1 <= steps <= n_timesteps:
        raise UserError(f"steps={steps}: a sampler takes from 1 to {n_timesteps} steps.")
    if spacing == "trailing":
        times = [round(n_timesteps - i * n_timesteps / steps) - 1 for i in range(steps)]
    elif spacing == "leading":
        times = [i * (n_timesteps // steps) for i in range(steps)]
    elif spacing == "linspace":
        times = torch.linspace(0, n_timesteps - 1, steps, dtype=torch.float64).round().tolist()
    elif spacing == "quadratic":
        roots = torch.linspace(0, sqrt(0.8 * n_timesteps), steps, dtype=torch.float64)
        times = roots.square().round().tolist()
    else:
        raise UserError(f"spacing={spacing!r}: choose one of {', '.join(SPACINGS)}.")
    return sorted({int(t) for t in times}, reverse=True)


@torch.no_grad()
def ddim(
    denoiser: Denoiser,
    x: Tensor,
    ab: Tensor,
    steps: int | list[int],
    rng: torch.Generator | None = None,
    eta: float = 0.0,
    spacing: str = "trailing",
    clip: bool = True,
    rederive: bool = False,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """DDIM from noise x (B, C, H, W): yields (t, x, x0) after each step; the last x is the images.

    `steps`: how many, laid out by `spacing`, or the times themselves, the noisiest first.
    With eta=0 the images are a function of the noise alone; eta=1 draws as much noise from `rng` on
    the way as DDPM. `clip` keeps x0 in [-1, 1]; where it did, `rederive` takes eps from x and the
    new x0, which else do not fit together: of many steps that is the end.
    """
    if not 0 <= eta <= 1 or (eta > 0 and rng is None):
        raise UserError(f"eta={eta}: between 0 and 1, and above 0 with a generator `rng`.")
    for t, ab_t, ab_s in _stops(denoiser, ab, steps, spacing):
        eps = denoiser(x, torch.full((len(x),), t, device=x.device))
        x0 = (x - sqrt(1 - ab_t) * eps) / sqrt(max(ab_t, LEAST))  # DDIM Eq. 9
        if clip:
            x0 = x0.clamp(-1, 1)
        if rederive:
            eps = (x - sqrt(ab_t) * x0) / sqrt(1 - ab_t)  # DDPM Eq. 4, solved for the noise
        sigma = eta * sqrt((1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s))  # DDIM Eq. 16
        x = sqrt(ab_s) * x0 + sqrt(max(1 - ab_s - sigma**2, 0)) * eps  # DDIM Eq. 12
        if sigma > 0:
            x = x + sigma * torch.randn(x.shape, generator=rng, dtype=x.dtype).to(x.device)
        yield t, x, x0


@torch.no_grad()
def ddpm(
    denoiser: Denoiser,
    x: Tensor,
    ab: Tensor,
    steps: int | list[int],
    rng: torch.Generator,
    spacing: str = "trailing",
    clip: bool = True,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """DDPM from noise x (B, C, H, W): yields (t, x, x0) after each step; the last x is the images.

    x is drawn anew at each step, from q(x_s | x_t, x0) with the x0 that the denoiser sees in x_t.
    With fewer steps than n_timesteps the schedule is that of the times that are left.
    """
    for t, ab_t, ab_s in _stops(denoiser, ab, steps, spacing):
        eps = denoiser(x, torch.full((len(x),), t, device=x.device))
        x0 = (x - sqrt(1 - ab_t) * eps) / sqrt(max(ab_t, LEAST))  # DDPM Eq. 15
        if clip:
            x0 = x0.clamp(-1, 1)
        alpha, beta = ab_t / ab_s, 1 - ab_t / ab_s
        x = (sqrt(ab_s) * beta * x0 + sqrt(alpha) * (1 - ab_s) * x) / (1 - ab_t)  # DDPM Eq. 7
        variance = (1 - ab_s) / (1 - ab_t) * beta  # DDPM Eq. 7
        if variance > 0:
            noise = torch.randn(x.shape, generator=rng, dtype=x.dtype)
            x = x + sqrt(variance) * noise.to(x.device)
        yield t, x, x0


def last(sampler: Iterator[tuple[int, Tensor, Tensor]]) -> Tensor:
    """The images (B, C, H, W) in [-1, 1] that a sampler ends with."""
    _, x, _ = deque(sampler, maxlen=1).pop()
    return x


def _stops(denoiser: Denoiser, ab: Tensor, steps: int | list[int], spacing: str) -> list[tuple]:
    """(t, ab_t, ab_s) of every step, s the time that it goes to; after the last step ab_s is 1."""
    _refuse_training(denoiser)
    times = timesteps(len(ab), steps, spacing) if isinstance(steps, int) else list(steps)
    falling = all(t > s for t, s in zip(times, times[1:], strict=False))
    if not times or not falling or times[0] >= len(ab) or times[-1] < 0:
        raise UserError(
            f"times fall from at most {len(ab) - 1} to at least 0; these do not: {times}."
        )
    shares = [*ab[times].tolist(), 1.0]
    return list(zip(times, shares[:-1], shares[1:], strict=True))


def _refuse_training(denoiser: Denoiser) -> None:
    """A network that still trains is no teacher and draws no samples."""
    if isinstance(denoiser, nn.Module) and denoiser.training:
        raise UserError(
            f"{type(denoiser).__name__} is in train mode: call its eval(), or frozen_copy, first."
        )
