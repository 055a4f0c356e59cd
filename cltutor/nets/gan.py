"""A conditional generator and a critic with a class head, as MLPs or as the convolutions of MeRGAN.

Inside both, pixels lie in [-1, 1]; only `sample` and `Signed` know the kit's images in [0, 1].
"""

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 32  # pixels: smaller images are padded to it by the convolutions, with black


class Signed(nn.Module):
    """Images in [0, 1] to pixels in [-1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        """2x - 1."""
        return 2 * x - 1


class ConditionalNorm(nn.Module):
    """Normalise the features of each image, then scale and shift them by numbers of its class.

    Mean and variance are those of one image over all its features, not of the batch: what an image
    looks like depends on no other, and `eval()` changes nothing.

    Args:
        n_classes: rows of `scale` and `shift`.
        width: their columns, the features (B, width) or channels (B, width, H, W).
    """

    def __init__(self, n_classes: int, width: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(n_classes, width))
        self.shift = nn.Parameter(torch.zeros(n_classes, width))

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """(B, width, ...) and classes (B,) -> (B, width, ...)."""
        shape = (*h.shape[:2], *[1] * (h.ndim - 2))
        return self.scale[c].view(shape) * F.layer_norm(h, h.shape[1:]) + self.shift[c].view(shape)


class Generator(nn.Module):
    """Draws an image from a latent z and a class c; the class acts through the norms alone.

    Args:
        shape: (C, H, W) of an image.
        n_classes: classes that may be asked for.
        hidden: units of both hidden layers ("mlp"); channels at 4x4 pixels, halved twice ("conv").
        latent: dimensions of z.
        net: "mlp" or "conv": one linear layer and three 5x5 transposed convolutions of stride 2.

    `met` (n_classes,) bool tells the classes trained on so far; the method keeps it.
    """

    def __init__(self, shape, n_classes: int, hidden: int, latent: int, net: str):
        super().__init__()
        self.shape, self.latent = tuple(shape), latent
        self.register_buffer("met", torch.zeros(n_classes, dtype=torch.bool))
        if net == "mlp":
            widths = [hidden, hidden]
            layers = [nn.Linear(latent, hidden), nn.Linear(hidden, hidden)]
            self.last = nn.Sequential(nn.Linear(hidden, prod(shape)), nn.Unflatten(1, self.shape))
        else:
            widths = halved(hidden)
            start = nn.Linear(latent, 16 * hidden), nn.Unflatten(1, (hidden, 4, 4))
            layers = [nn.Sequential(*start), *map(doubling, widths, widths[1:])]
            crop = nn.ConstantPad2d([-margin for margin in margins(shape)], 0.0)
            self.last = nn.Sequential(doubling(widths[-1], shape[0]), crop)
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(ConditionalNorm(n_classes, width) for width in widths)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """z (B, latent), classes (B,) -> pixels (B, C, H, W) in [-1, 1]."""
        h = z
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = F.relu(norm(layer(h), c))
        return torch.tanh(self.last(h))

    def noise(self, n: int, rng: torch.Generator) -> Tensor:
        """n latents z (n, latent), standard normal."""
        return torch.randn(n, self.latent, generator=rng).to(self.met.device)

    def any_met(self, n: int, rng: torch.Generator) -> Tensor:
        """n classes (n,), drawn evenly from those met, or from all while there is none."""
        known = self.met.nonzero().flatten() if self.met.any() else torch.arange(len(self.met))
        pick = torch.randint(len(known), (n,), generator=rng)
        return known.cpu()[pick].to(self.met.device)

    @torch.no_grad()
    def sample(self, n: int, rng: torch.Generator, classes: Tensor | None = None) -> Tensor:
        """n images (n, C, H, W) in [0, 1] of `classes` (n,), or of any classes met."""
        z = self.noise(n, rng)
        c = self.any_met(n, rng) if classes is None else classes.to(z.device)
        return (self(z, c).float() + 1) / 2


class Critic(nn.Module):
    """Scores how real an image looks (Wasserstein) and tells its class; no norms.

    Args:
        shape, n_classes, net: as for the generator.
        hidden: units of both hidden layers ("mlp"); channels of the last of three 5x5 convolutions
            of stride 2 ("conv").
    """

    def __init__(self, shape, n_classes: int, hidden: int, net: str):
        super().__init__()
        if net == "mlp":
            width, layers = hidden, [nn.Flatten(), nn.Linear(prod(shape), hidden)]
            layers += [nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2)]
        else:
            width, layers = 16 * hidden, [nn.ConstantPad2d(margins(shape), -1.0)]
            widths = [shape[0], *reversed(halved(hidden))]
            for before, after in zip(widths, widths[1:], strict=False):
                layers += [nn.Conv2d(before, after, 5, 2, 2), nn.LeakyReLU(0.2)]
            layers += [nn.Flatten()]
        self.body = nn.Sequential(*layers)
        self.score, self.head = nn.Linear(width, 1), nn.Linear(width, n_classes)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (B, C, H, W) in [-1, 1] -> scores (B,), logits of the classes (B, n_classes)."""
        h = self.body(u)
        return self.score(h).squeeze(1), self.head(h)


def halved(hidden: int) -> list[int]:
    """Channels at 4x4, 8x8 and 16x16 pixels."""
    return [hidden, max(1, hidden // 2), max(1, hidden // 4)]


def doubling(before: int, after: int) -> nn.ConvTranspose2d:
    """A 5x5 transposed convolution that doubles height and width."""
    return nn.ConvTranspose2d(before, after, 5, 2, 2, output_padding=1)


def margins(shape) -> list[int]:
    """(left, right, top, bottom) that bring an image of `shape` to SIDE x SIDE pixels."""
    _, height, width = shape
    left, top = (SIDE - width) // 2, (SIDE - height) // 2
    return [left, SIDE - width - left, top, SIDE - height - top]
