"""Losses of a conditional GAN: AC-GAN with Wasserstein loss and a penalty on the critic's slope.

A critic gives scores (B,) and logits of the classes (B, n_classes) of pixels u (B, C, H, W) in
[-1, 1]; u is real, u_ drawn, both of classes c (B,). `heads`, `scenario`: see `stream.visible`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, vmap

from cltutor.stream import visible

PENALTY, CLASS = 10.0, 1.0  # factors: Gulrajani et al. 2017; the code of Wu et al. 2018


def critic_loss(critic, u: Tensor, u_: Tensor, e: Tensor, c: Tensor, heads, scenario) -> Tensor:
    """D(u_) - D(u) + PENALTY slope_penalty + CLASS CE(f(u), c) of each image, (B,)."""
    score, logits = critic(u)
    error = F.cross_entropy(visible(logits, heads, scenario), c, reduction="none")
    slopes = slope_penalty(lambda pixels: critic(pixels)[0], u, u_, e)
    return critic(u_)[0] - score + PENALTY * slopes + CLASS * error


def generator_loss(critic, u_: Tensor, c: Tensor, heads, scenario) -> Tensor:
    """-D(u_) + CLASS CE(f(u_), c) of each image, (B,)."""
    score, logits = critic(u_)
    error = F.cross_entropy(visible(logits, heads, scenario), c, reduction="none")
    return CLASS * error - score


def slope_penalty(score, u: Tensor, u_: Tensor, e: Tensor) -> Tensor:
    """(|d score / du| - 1)^2 of each image at e u + (1 - e) u_: (B,), for a critic of slope 1.

    Args:
        score: images (B, C, H, W), of whatever range, -> (B,).
        e: where between u and u_, (B, 1, 1, 1) in [0, 1] (Gulrajani et al. 2017, Eq. 3).
    """
    between = (e * u + (1 - e) * u_).detach().requires_grad_()
    (slope,) = torch.autograd.grad(score(between).sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square()


def fisher(generator, z: Tensor, c: Tensor, signs: Tensor) -> dict[str, Tensor]:
    """F_i = sum_p (d g_p(z, c) / d theta_i)^2, mean over the images: {name: (*shape)}.

    The Fisher diagonal of a generator whose pixels have Gaussian noise of variance 1. Estimated
    with one product per image: the square of d (signs . g) / d theta_i has that expectation for
    `signs` (B, C, H, W) of 1 and -1, drawn evenly. With it `spring` is, to second order, the mean
    of |g - g'|^2 without the products of two different weights.
    """
    theta = {name: weight.detach() for name, weight in generator.named_parameters()}

    def projected(theta, z, c, signs):
        return (signs * functional_call(generator, theta, (z[None], c[None]))[0]).sum()

    slopes = vmap(grad(projected), (None, 0, 0, 0))(theta, z, c, signs)
    return {name: slope.square().mean(0) for name, slope in slopes.items()}


def spring(net, anchor: dict[str, Tensor], importance: dict[str, Tensor]) -> Tensor:
    """sum_i F_i (theta_i - theta'_i)^2 over all weights of `net`, theta' in `anchor`; a scalar."""
    theta = net.named_parameters()
    return sum((importance[name] * (weight - anchor[name]) ** 2).sum() for name, weight in theta)
