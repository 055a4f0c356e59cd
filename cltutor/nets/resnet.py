"""ResNet-18, its body alone: the network of the large experiments."""

import torch
from torch import nn

from cltutor.errors import UserError

STAGES = 4  # of two blocks each; every stage is twice as wide as the one before


def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """A convolution without bias, then a normalisation over groups of 8 channels or fewer."""
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(layer, norm(outputs))


def norm(channels: int) -> nn.GroupNorm:
    """A normalisation over groups of 8 channels or fewer."""
    return nn.GroupNorm(max(1, channels // 8), channels)


class Block(nn.Module):
    """Two 3x3 convolutions and the way round them (He et al. 2016, figure 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first, self.second = conv(inputs, outputs, 3, stride), conv(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.around = nn.Identity() if same else conv(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        return torch.relu(self.around(x) + self.second(torch.relu(self.first(x))))


class PreBlock(nn.Module):
    """The same with activations before the convolutions (He et al. 2016, Identity Mappings)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.norms = nn.ModuleList([norm(inputs), norm(outputs)])
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = inputs == outputs and stride == 1
        self.around = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride), of any sign."""
        z = torch.relu(self.norms[0](x))
        around = x if self.around is None else self.around(z)
        return around + self.second(torch.relu(self.norms[1](self.first(z))))


class ResNet(nn.Module):
    """ResNet-18 without its head: (B, C, H, W) in [0, 1] -> (B, hidden), averaged over places.

    He et al. 2016, with group norm (Wu & He 2018) in place of batch norm: what an image gives does
    not depend on the batch, and `eval()` changes nothing. Up to 32 pixels the first convolution is
    3x3 and nothing is pooled, as in Hess et al. 2023; larger images get the usual 7x7 with stride 2
    and a pooling.

    Args:
        shape: (C, H, W) of an image.
        hidden: channels of the last stage, 512 in ResNet-18; the stage before has half of it, ...
        before: whether activations come before the convolutions, as in Li et al. 2023.

    Raises:
        UserError: `hidden` cannot be halved so often.
    """

    def __init__(self, shape: tuple[int, int, int], hidden: int, before: bool = False):
        super().__init__()
        width = hidden // 2 ** (STAGES - 1)
        if width * 2 ** (STAGES - 1) != hidden:
            raise UserError(f"hidden={hidden} is no multiple of 8, which net=resnet needs.")
        small = max(shape[1:]) <= 32
        stem = conv(shape[0], width, 3) if small else conv(shape[0], width, 7, 2)
        layers, block = ([stem[0]], PreBlock) if before else ([stem, nn.ReLU()], Block)
        layers += [] if small else [nn.MaxPool2d(3, 2, padding=1)]
        for stage in range(STAGES):
            outputs = width * 2**stage
            inputs = max(width, outputs // 2)
            layers += [block(inputs, outputs, 2 if stage else 1), block(outputs, outputs, 1)]
        layers += [norm(hidden), nn.ReLU()] if before else []
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B, hidden), at least 0."""
        return self.layers(x)
