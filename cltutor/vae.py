"""Variational auto-encoder (Kingma & Welling 2014): Bernoulli pixels, standard normal prior."""

from math import prod

import torch
import torch.nn.functional as F
from torch import nn


class VAE(nn.Module):
    """Encoder and decoder with two hidden ReLU layers each.

    The layer that gives the log-variance has no bias, as in the code of van de Ven et al. 2022, so
    that hidden=400, latent=100 on MNIST has their 1,069,684 parameters.

    Args:
        shape: (C, H, W) of an image.
        hidden: units in each hidden layer.
        latent: dimensions of z.
    """

    def __init__(self, shape: tuple[int, int, int], hidden: int, latent: int):
        super().__init__()
        self.shape, self.latent, pixels = tuple(shape), latent, prod(shape)
        self.encoder = nn.Sequential(
            nn.Flatten(),
            nn.Linear(pixels, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )
        self.mu = nn.Linear(hidden, latent)
        self.logvar = nn.Linear(hidden, latent, bias=False)
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, pixels),
        )

    def forward(self, x: torch.Tensor, e: torch.Tensor):
        """Encode, draw z with the noise given, decode.

        Args:
            x: (B, C, H, W) in [0, 1].
            e: (B, latent) standard normal noise.

        Returns:
            logits of the pixels (B, C, H, W), mu (B, latent), logvar (B, latent).
        """
        hidden = self.encoder(x)
        mu, logvar = self.mu(hidden), self.logvar(hidden)
        z = mu + (0.5 * logvar).exp() * e  # the standard deviation is the root of the variance
        return self.decoder(z).view(-1, *self.shape), mu, logvar

    @torch.no_grad()
    def sample(self, n: int, rng: torch.Generator, classes=None) -> torch.Tensor:
        """n images (n, C, H, W) in [0, 1]: decoded means of z drawn from the prior.

        The VAE knows no classes, so `classes` must be None.
        """
        if classes is not None:
            raise ValueError("this VAE is unconditional: it cannot sample chosen classes.")
        z = torch.randn(n, self.latent, generator=rng).to(self.mu.weight.device)
        return self.decoder(z).sigmoid().float().view(n, *self.shape)


def negative_elbo(
    logits: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor, x: torch.Tensor
) -> torch.Tensor:
    """Negative evidence lower bound in nats per pixel, mean over the batch; a scalar.

    Cross-entropy of the pixels plus KL(N(mu, e^logvar) || N(0, 1)), both divided by the number of
    pixels (Kingma & Welling 2014, Eq. 10 and appendix B; the division as in van de Ven et al. 2022,
    so that the loss is of the order of a classification loss).

    Args:
        logits, x: (B, C, H, W); x in [0, 1].
        mu, logvar: (B, latent).
    """
    reconstruction = (
        F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)
    )
    kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(1)
    return (reconstruction + kl).mean() / x[0].numel()
