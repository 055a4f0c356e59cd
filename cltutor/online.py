"""How a single step changes what a network says of other images, and how to keep it from that."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


def moved(logits: Tensor, before: Tensor) -> Tensor:
    """Squared change of logits (B, n_classes), sum over classes, mean over images; a scalar."""
    return (logits - before).square().sum(1).mean()


def descend(weights: list[Tensor], loss: Tensor, lr: float) -> None:
    """One step of plain gradient descent, in place."""
    slopes = torch.autograd.grad(loss, weights)
    with torch.no_grad():
        for weight, slope in zip(weights, slopes, strict=True):
            weight -= lr * slope


def lookahead(net: nn.Module, loss: Tensor, lr: float) -> Callable[[Tensor], Tensor]:
    """`net` as it would be after a step on `loss`; gradients pass through that step."""
    weights = dict(net.named_parameters())
    slopes = torch.autograd.grad(loss, weights.values(), create_graph=True)
    pairs = zip(weights.items(), slopes, strict=True)
    ahead = {name: weight - lr * slope for (name, weight), slope in pairs}
    return lambda x: functional_call(net, ahead, (x,))


@torch.no_grad()
def projectors(layers: list[nn.Module], x: Tensor, eps: float) -> dict[nn.Linear, Tensor]:
    """For each linear layer P = eps (M + eps I)^-1, (d, d), M = A^T A / n.

    A (n, d) are its inputs when x (n, ...) passes through `layers` in turn, with a 1 for the bias.
    A gradient (weight, bias) times P is what is left of it when the inputs seen are projected out:
    A P -> 0 as eps -> 0. In float64.
    """
    found = {}
    for layer in layers:
        if isinstance(layer, nn.Linear):
            A = F.pad(x, (0, 1), value=1.0).double()
            one = torch.eye(A.shape[1], dtype=A.dtype, device=A.device)
            found[layer] = eps * torch.linalg.inv(A.T @ A / len(A) + eps * one)
        x = layer(x)
    return found


def project(layers: list[nn.Module], x: Tensor, eps: float) -> None:
    """Project the gradients of linear `layers`: a step leaves what they say of x as it is."""
    for layer, P in projectors(layers, x, eps).items():
        G = torch.cat([layer.weight.grad, layer.bias.grad[:, None]], 1)
        G = (G.double() @ P).to(G.dtype)
        layer.weight.grad, layer.bias.grad = G[:, :-1], G[:, -1]
