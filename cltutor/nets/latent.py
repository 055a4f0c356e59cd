"""Networks with a latent code z = f(x) that is remembered or aligned instead of images."""

from math import prod

import torch
import torch.nn.functional as F
from torch import nn

from cltutor.nets.solver import Solver


def encoder(shape: tuple[int, int, int], hidden: int, latent: int) -> nn.Sequential:
    """A hidden ReLU layer, then z without a nonlinearity: (B, C, H, W) -> (B, latent)."""
    layers = [nn.Linear(prod(shape), hidden), nn.ReLU(), nn.Linear(hidden, latent)]
    return nn.Sequential(nn.Flatten(), *layers)


def coded_solver(shape, n_classes: int, hidden: int, latent: int) -> Solver:
    """A linear head on an `encoder`."""
    return Solver(encoder(shape, hidden, latent), latent, n_classes)


class Residual(nn.Module):
    """A bridge that is the identity before it is trained: z + g(z), (B, latent) -> (B, latent).

    Args:
        latent: dimensions of z.
        hidden: units of its one hidden ReLU layer; 0 makes it linear.
    """

    def __init__(self, latent: int, hidden: int):
        super().__init__()
        first = [nn.Linear(latent, hidden), nn.ReLU()] if hidden else []
        self.change = nn.Sequential(*first, nn.Linear(hidden or latent, latent))
        nn.init.zeros_(self.change[-1].weight)
        nn.init.zeros_(self.change[-1].bias)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """z of the newer encoder -> z as the older one would have it."""
        return z + self.change(z)


class Bridged(Solver):
    """A solver that reads the heads of the past through bridges into their latent spaces.

    `owner` (n_classes,) int64 tells at which experience, counted among those learned, each class
    was learned; -1: not yet. Its logit comes from the z that its head was trained on. Bridge j
    leads into the space of experience j: with `chain` from that of experience j + 1, so that older
    spaces are reached over several bridges, otherwise from the newest at once.
    """

    def __init__(self, shape, n_classes: int, hidden: int, latent: int, wide: int, n: int, chain):
        super().__init__(encoder(shape, hidden, latent), latent, n_classes)
        self.bridges = nn.ModuleList([Residual(latent, wide) for _ in range(n)])
        self.register_buffer("owner", torch.full((n_classes,), -1))
        self.chain = chain

    def codes(self, z: torch.Tensor) -> list[torch.Tensor]:
        """z of the newest encoder, (B, latent), in the space of every experience, oldest first."""
        found = [z]
        for bridge in reversed(self.bridges):
            found.append(bridge(found[-1] if self.chain else z))
        return found[::-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) in [0, 1] -> logits (B, n_classes)."""
        codes = self.codes(self.body(x))
        logits = self.head(codes[-1])
        for j, z in enumerate(codes[:-1]):
            logits = torch.where(self.owner == j, self.head(z), logits)
        return logits


class CodeVAE(nn.Module):
    """A conditional VAE of latent codes with one hidden ReLU layer on either side.

    Its decoder is the generator z = G(e, c) of a memory that all classes share.

    Args:
        latent: dimensions of the codes.
        n_classes: classes that a code may be asked of.
        hidden: units of a hidden layer.
        noise: dimensions of e.
    """

    def __init__(self, latent: int, n_classes: int, hidden: int, noise: int):
        super().__init__()
        self.n_classes, self.noise = n_classes, noise
        first = nn.Linear(latent + n_classes, hidden)
        self.encoder = nn.Sequential(first, nn.ReLU(), nn.Linear(hidden, 2 * noise))
        first = nn.Linear(noise + n_classes, hidden)
        self.decoder = nn.Sequential(first, nn.ReLU(), nn.Linear(hidden, latent))

    def _with(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return torch.cat([z, F.one_hot(c, self.n_classes).to(z.dtype)], 1)

    def forward(self, e: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Noise e (B, noise), classes c (B,) -> codes (B, latent)."""
        return self.decoder(self._with(e, c))

    def loss(self, z: torch.Tensor, c: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        """Negative evidence lower bound with unit variance, nats per dimension of z; a scalar."""
        mu, logvar = self.encoder(self._with(z, c)).chunk(2, 1)
        drawn = self(mu + (0.5 * logvar).exp() * e, c)
        kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(1)
        return (0.5 * (drawn - z).square().sum(1) + kl).mean() / z.shape[1]
