"""A UNet that predicts noise in images of 8x8 to 32x32, and what makes a generator of a denoiser.

With widths 64, 128, 256, 512, one block per level and attention at the lowest it is, parameter by
parameter, the network of Masip et al. 2024 for Fashion-MNIST. No dropout and no batch norm.
"""

from math import gcd, log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cltutor.diffusion import ddim, last, linear, to_image, zero_terminal_snr
from cltutor.nets.denoiser import ResidualMLP


def norm(channels: int) -> nn.GroupNorm:
    """GroupNorm of up to 32 groups with at least two channels each."""
    return nn.GroupNorm(gcd(32, channels // 2), channels)


class Block(nn.Module):
    """h + f(h, time), f two 3x3 convolutions; the time's embedding is added between them."""

    def __init__(self, before: int, after: int, time: int):
        super().__init__()
        self.first = nn.Sequential(norm(before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(time, after))
        self.second = nn.Sequential(norm(after), nn.SiLU(), nn.Conv2d(after, after, 3, padding=1))
        self.skip = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        """(B, before, H, W) and (B, time) -> (B, after, H, W)."""
        return self.skip(h) + self.second(self.first(h) + self.time(time)[:, :, None, None])


class Attention(nn.Module):
    """h + attention of every pixel to all, in heads of 8 channels (fewer if it has no 8)."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm, self.heads = norm(channels), max(1, channels // 8)
        self.ask, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, h: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same."""
        pixels = self.norm(h).flatten(2).transpose(1, 2)
        parts = self.ask(pixels).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        return h + self.out(mixed).transpose(1, 2).reshape(h.shape)


class UNet(nn.Module):
    """eps(x_t, t): down to small and wide, up again, with every stage handed across.

    Args:
        shape: (C, H, W) of an image.
        widths: channels of each level, all even; the side is halved from one level to the next.
        attention: whether the lowest level and the middle have attention.
    """

    def __init__(self, shape: tuple[int, int, int], widths=(16, 32), attention: bool = False):
        super().__init__()
        self.width, time, here = widths[0], 4 * widths[0], widths[0]
        frequencies = torch.exp(-log(10_000) * torch.arange(here // 2) / (here // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.time = nn.Sequential(nn.Linear(here, time), nn.SiLU(), nn.Linear(time, time))
        self.begin = nn.Conv2d(shape[0], here, 3, padding=1)
        self.down, self.up, across = nn.ModuleList(), nn.ModuleList(), [here]
        for i, width in enumerate(widths):
            lowest = i == len(widths) - 1
            level = nn.ModuleDict({"block": Block(here, width, time)})
            here = width
            across.append(here)
            if attention and lowest:
                level["attention"] = Attention(here)
            if not lowest:
                level["halve"] = nn.Conv2d(here, here, 3, stride=2, padding=1)
                across.append(here)
            self.down.append(level)
        self.middle = nn.ModuleList([Block(here, here, time), Block(here, here, time)])
        self.focus = Attention(here) if attention else nn.Identity()
        for i, width in enumerate(reversed(widths)):
            level = nn.ModuleDict({"first": Block(here + across.pop(), width, time)})
            level["second"] = Block(width + across.pop(), width, time)
            here = width
            if attention and i == 0:
                level["focus_first"], level["focus_second"] = Attention(here), Attention(here)
            if i < len(widths) - 1:
                level["enlarge"] = nn.Conv2d(here, here, 3, padding=1)
            self.up.append(level)
        self.end = nn.Sequential(norm(here), nn.SiLU(), nn.Conv2d(here, shape[0], 3, padding=1))

    def encode(self, x: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The time's embedding, and all that the way down leaves: the middle is the last.

        Args:
            x: (B, C, H, W) at times t (B,) int64.

        Returns:
            (B, 4 width of the first level), and maps (B, channels, height, width) of every stage.
        """
        angles = t[:, None] * self.frequencies
        time = self.time(torch.cat([angles.cos(), angles.sin()], 1))
        h = self.begin(x)
        across = [h]
        for level in self.down:
            h = level["block"](h, time)
            if "attention" in level:
                h = level["attention"](h)
            across.append(h)
            if "halve" in level:
                h = level["halve"](h)
                across.append(h)
        h = self.middle[1](self.focus(self.middle[0](h, time)), time)
        return time, [*across, h]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x (B, C, H, W) at times t (B,) int64 -> the noise in it, (B, C, H, W)."""
        time, across = self.encode(x, t)
        h = across.pop()
        for level in self.up:
            for part in ("first", "second"):
                h = level[part](torch.cat([h, across.pop()], 1), time)
                if f"focus_{part}" in level:
                    h = level[f"focus_{part}"](h)
            if "enlarge" in level:
                h = level["enlarge"](F.interpolate(h, size=across[-1].shape[-2:]))
        return self.end(h)


class Diffuser(nn.Module):
    """A denoiser with the schedule `ab` that it is trained on: a generator that draws by DDIM.

    Called as the denoiser itself: eps(x_t, t). `sample` gives images in [0, 1], as all generators
    of the kit do; the steps are trailing, eta = 0, and eps fits the clipped x0: a pool is drawn in
    many steps.

    Args:
        shape: (C, H, W) of an image.
        net: "mlp", "unet", or "attention", a UNet that has it.
        width: of the MLP; of the UNet's first level, doubled from level to level.
        levels: of the UNet; blocks of the MLP.
        zero_snr: whether the schedule leaves nothing of the image at its end.
        steps: of `sample`.
    """

    def __init__(self, shape, net: str, width: int, levels: int, zero_snr: bool, steps: int):
        super().__init__()
        self.shape, self.steps = tuple(shape), steps
        ab = zero_terminal_snr(linear()) if zero_snr else linear()
        self.register_buffer("ab", ab, persistent=False)
        if net == "mlp":
            self.denoiser = ResidualMLP(shape, width, levels)
        else:
            widths = [width * 2**i for i in range(levels)]
            self.denoiser = UNet(shape, widths, attention=net == "attention")

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x (B, C, H, W) at times t (B,) -> the noise in it."""
        return self.denoiser(x, t)

    def noise(self, u: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise e like the images u (B, C, H, W), and a random time for each of them, t (B,)."""
        e = torch.randn(u.shape, generator=rng)
        t = torch.randint(len(self.ab), (len(u),), generator=rng)
        return e.to(u.device), t.to(u.device)

    def draw(self, n: int, rng: torch.Generator, steps: int) -> Tensor:
        """n images (n, C, H, W) in [-1, 1] after `steps` steps, from noise of `rng`."""
        x = torch.randn(n, *self.shape, generator=rng).to(self.ab.device)
        return last(ddim(self.eval(), x, self.ab, steps, rederive=True)).float().clamp(-1, 1)

    @torch.no_grad()
    def sample(self, n: int, rng: torch.Generator, classes: Tensor | None = None) -> Tensor:
        """n images (n, C, H, W) in [0, 1]; ValueError if classes are asked for."""
        if classes is not None:
            raise ValueError("this generator knows no classes: it draws any of them.")
        return to_image(self.draw(n, rng, self.steps))
