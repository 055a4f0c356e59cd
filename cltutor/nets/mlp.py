"""Multi-layer perceptron: the solver of the small experiments."""

from math import prod

import torch
from torch import nn


class MLP(nn.Module):
    """Two hidden ReLU layers, then one linear head over all classes.

    Args:
        shape: (C, H, W) of an image.
        n_classes: outputs.
        hidden: units in each of the two hidden layers (van de Ven et al. 2022 use 400 on MNIST).
    """

    def __init__(self, shape: tuple[int, int, int], n_classes: int, hidden: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(),
            nn.Linear(prod(shape), hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )
        self.head = nn.Linear(hidden, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) in [0, 1] -> logits (B, n_classes)."""
        return self.head(self.body(x))
