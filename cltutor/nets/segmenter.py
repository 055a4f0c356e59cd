"""A small U-shaped network that names the class of every pixel."""

import torch
import torch.nn.functional as F
from torch import nn

from cltutor.errors import UserError


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution, drawn for the ReLU behind it (He et al. 2015)."""
    layer = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
    nn.init.kaiming_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(layer, nn.ReLU())


class UBody(nn.Module):
    """Down to a quarter of the side and up again, every level handed across to its like.

    U-Net (Ronneberger et al. 2015) with three levels, most of its work on the two small ones, and
    no norm.

    Args:
        shape: (C, H, W) of an image; H and W multiples of 4.
        hidden: channels of the features; the levels have a half of it, twice and four times it.

    Raises:
        UserError: an image that cannot be halved twice.
    """

    def __init__(self, shape: tuple[int, int, int], hidden: int):
        super().__init__()
        channels, height, width = shape
        if height % 4 or width % 4:
            raise UserError(
                f"images of {height}x{width} cannot be halved twice: 4 must divide both."
            )
        half = max(1, hidden // 2)
        self.top = conv(channels, half)
        self.middle = nn.Sequential(conv(half, 2 * hidden, 2), conv(2 * hidden, 2 * hidden))
        self.low = nn.Sequential(conv(2 * hidden, 4 * hidden, 2), conv(4 * hidden, 4 * hidden))
        self.up = conv(6 * hidden, 2 * hidden)
        self.out = conv(2 * hidden + half, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) in [0, 1] -> features (B, hidden, H, W), at least 0."""
        top = self.top(x)
        middle = self.middle(top)
        low = F.interpolate(self.low(middle), scale_factor=2.0)
        up = F.interpolate(self.up(torch.cat([low, middle], 1)), scale_factor=2.0)
        return self.out(torch.cat([up, top], 1))


class Segmenter(nn.Module):
    """A `UBody` and one linear head over all classes, the same for every pixel."""

    def __init__(self, shape: tuple[int, int, int], n_classes: int, hidden: int):
        super().__init__()
        self.body, self.head = UBody(shape, hidden), nn.Conv2d(hidden, n_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) in [0, 1] -> logits (B, n_classes, H, W)."""
        return self.head(self.body(x))
