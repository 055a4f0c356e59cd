"""Residual MLP that predicts noise: the denoiser of small images."""

from math import log, prod

import torch
import torch.nn.functional as F
from torch import nn


class ResidualMLP(nn.Module):
    """eps(x, t) = gate(t) x + f(x, t), f a residual MLP that is told the time.

    At most times x is nearly all noise, and f would have to carry every pixel through its blocks;
    the gate, one number for each t, does that instead.

    Args:
        shape: (C, H, W) of an image.
        width: of the blocks and of the time's embedding, even.
        blocks: residual blocks of two linear layers.
    """

    def __init__(self, shape: tuple[int, int, int], width: int = 256, blocks: int = 3):
        super().__init__()
        self.shape, pixels = tuple(shape), prod(shape)
        frequencies = torch.exp(-log(10_000) * torch.arange(width // 2) / (width // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.gate = nn.Linear(width, 1)
        self.begin = nn.Linear(pixels, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
            )
            for _ in range(blocks)
        )
        self.end = nn.Linear(width, pixels)

    def encode(self, x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The time's embedding, and what stands before the first and after every block.

        Args:
            x: (B, C, H, W) at times t (B,) int64.

        Returns:
            (B, width), and blocks + 1 times (B, width).
        """
        angles = t[:, None] * self.frequencies
        time = self.time(torch.cat([angles.cos(), angles.sin()], 1))
        levels = [self.begin(x.flatten(1))]
        for block in self.blocks:
            levels.append(levels[-1] + block(levels[-1] + time))
        return time, levels

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x (B, C, H, W) at times t (B,) int64 -> the noise in it, (B, C, H, W)."""
        time, levels = self.encode(x, t)
        gate = self.gate(F.silu(time)).view(-1, 1, 1, 1)
        return gate * x + self.end(levels[-1]).view(-1, *self.shape)
