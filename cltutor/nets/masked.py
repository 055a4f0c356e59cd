"""A generator whose units or weights are masked and that can grow, and its discriminator.

Each experience has a binary mask, and its classes are drawn by the part of the network that this
mask cuts out. What no mask reserves is free to learn.
"""

from math import ceil, prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedGenerator(nn.Module):
    """z and a class to an image, by linear layers or by transposed convolutions.

    A layer is one tensor (out, in, ...). The first of its inputs is a constant 1, so that biases
    are masked, reserved and grown like all other weights. The output layer is shared by all
    classes.

    Args:
        shape: (C, H, W) of an image; with `conv` of at most 32x32 pixels.
        n_classes, latent: the network's input is z, and the class as one-hot.
        widths: units (channels) of the hidden layers; with `conv` three of them.
        mask: what has masks: "units" of the hidden layers, "weights" of all layers, or "none".
        conv: kernels of 4x4, to 4, 8, 16 and 32 pixels a side; the middle is the image.
        experiences: how many have their masks in it.
    """

    def __init__(self, shape, n_classes, latent, widths, mask, conv=False, experiences=0):
        super().__init__()
        self.shape, self.n_classes, self.latent = tuple(shape), n_classes, latent
        self.mask, self.conv = mask, conv
        ends = [latent + n_classes, *widths, shape[0] if conv else prod(shape)]
        kernel = (4, 4) if conv else ()
        layers = [_drawn((out, 1 + n, *kernel)) for n, out in zip(ends, ends[1:], strict=False)]
        self.layers = nn.ParameterList(layers)
        known = torch.zeros(experiences, n_classes, dtype=torch.bool)
        self.register_buffer("known", known)  # [k, c]: whether experience k had class c
        for i, masked in enumerate(self.masked()):
            self.register_buffer(f"mask{i}", known.new_zeros(experiences, *masked))

    def masked(self) -> list[tuple[int, ...]]:
        """The shapes of one experience's masks."""
        shapes = [tuple(layer.shape) for layer in self.layers]
        of = {"none": [], "units": [shape[:1] for shape in shapes[:-1]], "weights": shapes}
        return of[self.mask]

    @property
    def masks(self) -> list[Tensor]:
        """(experiences, *shape) bool for each of `masked()`."""
        return [getattr(self, f"mask{i}") for i in range(len(self.masked()))]

    def used(self) -> list[Tensor]:
        """(*shape) bool for each of `masked()`: what the mask of some experience has."""
        return [mask.any(0) for mask in self.masks]

    def free(self) -> list[int]:
        """How many units or weights no mask has, for each of `masked()`."""
        return [int((~used).sum()) for used in self.used()]

    def reserved(self) -> list[Tensor]:
        """Per layer (out, in, ...) bool: the weights that may not change any more.

        With masked units, weight ij is reserved if unit i and input j both are; the constant, the
        network's input and the pixels are as soon as there is a mask.
        """
        used = self.used()
        if self.mask == "units":
            some = self.known.any().reshape(1)
            rows = [*used, some.expand(len(self.layers[-1]))]
            inputs = [some.expand(self.layers[0].shape[1]), *(torch.cat([some, u]) for u in used)]
            used = [row[:, None] & column for row, column in zip(rows, inputs, strict=True)]
            used = [self._over(pair, layer) for pair, layer in zip(used, self.layers, strict=True)]
        return used or [torch.zeros_like(layer, dtype=torch.bool) for layer in self.layers]

    @staticmethod
    def _over(mask: Tensor, layer: Tensor) -> Tensor:
        """`mask` of the first dimensions of a layer as large as the layer."""
        return mask.view(*mask.shape, *[1] * (layer.dim() - mask.dim())).expand_as(layer)

    def forward(self, z: Tensor, y: Tensor, masks: list[Tensor]) -> Tensor:
        """Images (B, C, H, W) in [0, 1] of the classes y (B,) from z (B, latent).

        `masks`: numbers in [0, 1] for each of `masked()`. A unit's mask multiplies the weights
        into it: ReLU(m a) = m ReLU(a).
        """
        layers = list(self.layers)
        for i, mask in enumerate(masks):
            layers[i] = layers[i] * self._over(mask, layers[i])
        return self._draw(layers, z, y)

    def part(self, k: int | None) -> list[Tensor]:
        """The layers of the part that the mask of experience k cuts out; None: all of them.

        The units outside are left out rather than multiplied by 0: a sum over more terms may round
        to another last bit, and the network grows.
        """
        layers = list(self.layers)
        if k is None or self.mask == "none":
            return layers
        units = [mask[k] for mask in self.masks]
        if self.mask == "weights":
            layers = [layer * mask for layer, mask in zip(layers, units, strict=True)]
            links = [mask.flatten(2).any(2) if self.conv else mask for mask in units]
            ways = zip(links, links[1:], strict=False)
            units = [into.any(1) & out_of[:, 1:].any(0) for into, out_of in ways]
        for i, mask in enumerate(units):
            if not mask.any():  # a layer has a unit at least: one of zeros
                mask, layers[i] = torch.arange(len(mask), device=mask.device) == 0, 0 * layers[i]
            constant = mask.new_ones(1)
            layers[i] = layers[i][mask]
            layers[i + 1] = layers[i + 1][:, torch.cat([constant, mask])]
        return layers

    def _draw(self, layers: list[Tensor], z: Tensor, y: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1], through the layers given."""
        h = torch.cat([z, F.one_hot(y, self.n_classes)], 1)
        h = h[:, :, None, None] if self.conv else h
        for i, layer in enumerate(layers):
            constant = h.new_ones(len(h), 1, *h.shape[2:])
            h = torch.cat([constant, F.relu(h) if i else h], 1)
            if self.conv:
                stride, padding = (2, 1) if i else (1, 0)
                h = F.conv_transpose2d(h, layer.transpose(0, 1), stride=stride, padding=padding)
            else:
                h = F.linear(h, layer)
        if self.conv:
            top, left = ((32 - side) // 2 for side in self.shape[1:])
            h = h[:, :, top : top + self.shape[1], left : left + self.shape[2]]
        return h.sigmoid().view(-1, *self.shape)

    @torch.no_grad()
    def sample(self, n: int, rng: torch.Generator, classes: Tensor | None = None) -> Tensor:
        """n images (n, C, H, W) in [0, 1], each by the part of its class.

        Args:
            classes: (n,) ids; None draws uniformly from those learnt. A class that several
                experiences had is drawn by the part of one of them at random; one that none had,
                by the whole network.
        """
        device, known = self.known.device, self.known.cpu()
        z, luck = torch.randn(n, self.latent, generator=rng), torch.rand(n, generator=rng)
        if classes is None:
            learnt = known.any(0).nonzero().flatten()
            learnt = learnt if len(learnt) else torch.arange(self.n_classes)
            classes = learnt[torch.randint(len(learnt), (n,), generator=rng)]
        classes = classes.cpu()
        having = known.sum(0)[classes]  # how many experiences had the class
        nth = (luck * having).long().clamp(max=(having - 1).clamp(min=0))
        owner = (known.cumsum(0)[:, classes] <= nth).sum(0)  # = len(known) if there is none
        x = torch.empty(n, *self.shape, device=device)
        for k in owner.unique().tolist():
            mine, part = owner == k, self.part(k if k < len(known) else None)
            x[mine] = self._draw(part, z[mine].to(device), classes[mine].to(device)).float()
        return x

    def remember(self, classes: tuple[int, ...], masks: list[Tensor]) -> None:
        """Keep the masks (bool, for each of `masked()`) of an experience with these classes."""
        row = self.known.new_zeros(1, self.n_classes)
        row[0, list(classes)] = True
        self.known = torch.cat([self.known, row])
        for i, mask in enumerate(masks):
            setattr(self, f"mask{i}", torch.cat([getattr(self, f"mask{i}"), mask[None]]))

    def new_units(self, before: list[int]) -> list[int]:
        """Units to add to each hidden layer so that again as much is `free` as there was before.

        With masks on weights, new units of one layer are new columns of the next, and the rest
        comes as rows; the last hidden layer has to provide the columns of the output layer.
        """
        lost, more = [then - now for then, now in zip(before, self.free(), strict=True)], [0]
        if self.mask != "weights":
            return lost
        for n, layer in zip(lost, self.layers[:-1], strict=False):
            columns, row = more[-1] * layer[:, 0].numel(), layer[0].numel()
            row += more[-1] * layer[0, 0].numel()
            more.append(ceil(max(0, n - columns) / row))
        return [*more[1:-1], max(more[-1], ceil(lost[-1] / self.layers[-1][:, 0].numel()))]

    @torch.no_grad()
    def grow(self, more: list[int], rng: torch.Generator) -> None:
        """Add `more[i]` units to hidden layer i, their weights drawn anew; no mask has them."""
        for i, n in enumerate(more):
            layer, following = self.layers[i], self.layers[i + 1]
            rows = _drawn((n, *layer.shape[1:]), rng).to(layer)
            out, before, *kernel = following.shape
            columns = _drawn((out, before + n, *kernel), rng)[:, before:].to(layer)
            self.layers[i] = nn.Parameter(torch.cat([layer, rows]))
            self.layers[i + 1] = nn.Parameter(torch.cat([following, columns], 1))
        for i, shape in enumerate(self.masked()):
            old = getattr(self, f"mask{i}")
            new = old.new_zeros(len(old), *shape)
            new[tuple(map(slice, old.shape))] = old
            setattr(self, f"mask{i}", new)


def _drawn(shape: tuple[int, ...], rng: torch.Generator | None = None) -> Tensor:
    """Initial weights, uniform in +-1/sqrt(inputs of a unit), as torch's linear layers."""
    return (2 * torch.rand(shape, generator=rng) - 1) / prod(shape[1:]) ** 0.5


class Discriminator(nn.Module):
    """One body with two heads: the class of an image, and whether it looks real.

    Args:
        shape: (C, H, W) of an image.
        n_classes: outputs of the class head.
        hidden: units of each of two hidden layers; with `conv`, channels of the last of three
            layers (5x5, stride 2), after a quarter and half as many.
    """

    def __init__(self, shape, n_classes: int, hidden: int, conv: bool = False):
        super().__init__()
        if conv:
            channels = [shape[0], max(1, hidden // 4), max(1, hidden // 2), hidden]
            pairs = zip(channels, channels[1:], strict=False)
            layers = [nn.Conv2d(a, b, 5, stride=2, padding=2) for a, b in pairs]
            n_features = hidden * prod(-(-side // 8) for side in shape[1:])
        else:
            layers = [nn.Linear(prod(shape), hidden), nn.Linear(hidden, hidden)]
            n_features = hidden
        steps = [step for layer in layers for step in (layer, nn.LeakyReLU(0.2))]
        flatten = nn.Flatten()
        self.body = nn.Sequential(*steps, flatten) if conv else nn.Sequential(flatten, *steps)
        self.head = nn.Linear(n_features, n_classes)
        self.critic = nn.Linear(n_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> logits (B, n_classes)."""
        return self.head(self.body(x))

    def score(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> the critic's score (B,), high for real images."""
        return self.critic(self.body(x)).flatten()
