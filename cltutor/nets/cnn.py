"""A small convolutional classifier for images of 8x8 to 32x32 pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CNN(nn.Module):
    """Three 3x3 convolutions, pooled to 4x4, then a layer of features and a linear head.

    No dropout and no batch norm: `eval()` changes nothing, and no draw is made in `forward`.

    Args:
        shape: (C, H, W) of the images, H and W from 8 to 32.
        n_classes: number of logits.
        width: channels of the first convolution; the others have twice as many.
        n_features: size of the penultimate layer.
    """

    def __init__(
        self, shape: tuple[int, int, int], n_classes: int, width: int = 16, n_features: int = 64
    ):
        super().__init__()
        self.first = nn.Conv2d(shape[0], width, 3, padding=1)
        self.second = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.third = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.penultimate = nn.Linear(2 * width * 4 * 4, n_features)
        self.head = nn.Linear(n_features, n_classes)

    def features(self, x: Tensor) -> Tensor:
        """Non-negative (N, n_features) from images (N, C, H, W) in [0, 1]."""
        h = F.relu(self.first(2 * x - 1))
        if x.shape[-1] > 16:
            h = F.max_pool2d(h, 2)
        h = F.max_pool2d(F.relu(self.second(h)), 2)
        h = F.adaptive_avg_pool2d(F.relu(self.third(h)), 4)
        return F.relu(self.penultimate(torch.flatten(h, 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, n_classes) from images (N, C, H, W) in [0, 1]."""
        return self.head(self.features(x))
