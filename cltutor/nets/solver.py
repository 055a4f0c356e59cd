"""The networks that a method can be told to take as its solver, by name."""

from functools import partial
from math import prod
from typing import Literal

import torch
from torch import nn

from cltutor.nets.mlp import MLP
from cltutor.nets.resnet import ResNet
from cltutor.nets.segmenter import Segmenter

Small = Literal["mlp", "leaky", "conv"]
Net = Literal["mlp", "leaky", "conv", "resnet"]
AnyNet = Literal["mlp", "leaky", "conv", "resnet", "preact", "segmenter"]
# A preset of several methods: so narrow that features are lost on 8x8 digits (notebook 08); 30
# passes over an experience of halved-digits.
NARROW = dict(net="leaky", hidden=8, steps=150, batch=32, lr=3e-3)
# A ResNet-18 of an eighth of its width; 2.5 passes over an experience of CIFAR-100 in 10, 5 in 20.
CIFAR = dict(net="resnet", hidden=64, steps=390, batch=32)
# A preset of several methods, for labels that are maps.
MAPS = dict(net="segmenter", hidden=24, steps=1000, batch=16, lr=2e-3)
SLOPE = 0.1  # of a leaky unit below 0: in a layer of 8, dead units would leave too few


class Solver(nn.Module):
    """A body that makes features, then one linear head over all classes."""

    def __init__(self, body: nn.Module, width: int, n_classes: int):
        super().__init__()
        self.body, self.head = body, nn.Linear(width, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) in [0, 1] -> logits (B, n_classes)."""
        return self.head(self.body(x))


def make_solver(net: AnyNet, shape: tuple[int, int, int], n_classes: int, hidden: int) -> nn.Module:
    """The network of that name, its features `hidden` wide; it has a `body` and a `head`.

    Args:
        net: "mlp", two ReLU layers; "leaky", three LeakyReLU layers, for narrow networks; "conv",
            3x3 convolutions of 16, 32 and 64 channels and a ReLU layer; "resnet", a ResNet-18;
            "preact", one with activations before the convolutions; "segmenter", logits for every
            pixel (segmenter.py).
        shape: (C, H, W) of an image.
    """
    if net == "mlp":
        return MLP(shape, n_classes, hidden)
    if net == "segmenter":
        return Segmenter(shape, n_classes, hidden)
    bodies = {"leaky": leaky, "conv": conv, "resnet": ResNet}
    bodies["preact"] = partial(ResNet, before=True)
    return Solver(bodies[net](shape, hidden), hidden, n_classes)


def leaky(shape: tuple[int, int, int], hidden: int) -> nn.Sequential:
    """Three layers of `hidden` leaky units: (B, C, H, W) -> (B, hidden)."""
    layers = [nn.Flatten()]
    for inputs in (prod(shape), hidden, hidden):
        layers += [nn.Linear(inputs, hidden), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)


def conv(shape: tuple[int, int, int], hidden: int) -> nn.Sequential:
    """Three convolutions that each halve the image, and a layer of `hidden` ReLU units."""
    layers, (inputs, height, width) = [], shape
    for outputs in (16, 32, 64):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU()]
        inputs, height, width = outputs, (height + 1) // 2, (width + 1) // 2
    layers += [nn.Flatten(), nn.Linear(inputs * height * width, hidden), nn.ReLU()]
    return nn.Sequential(*layers)
