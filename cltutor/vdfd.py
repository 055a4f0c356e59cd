"""What is kept of an old network, to first order, and the bound that says how well it is kept.

An old network's mean outputs are a plane over its weights: f(w) ~ f(w*) + G'(w - w*), G its mean
Jacobian. `drift` is d = G'w - G'w*, how far the outputs have moved, without any old image.
`bound` is the negative variational bound on the mutual information of old and new outputs for
such a drift, with the covariance Sigma of a Gaussian between them; `GCN` makes Sigma from the old
classes' rows of the head.

Equations: VDFD is Li, Wang, Sun & Xu 2023; DFD, Sigma = I, Li, Wang, Sun & Xu 2023 (Pattern
Recognition); graph convolutions are Kipf & Welling 2017.
"""

from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from cltutor.errors import UserError

EPS = 1e-3  # VDFD's code: Sigma^-1 = P P' + EPS I
CHUNK = 50  # images whose Jacobians are in memory at once


def mean_jacobian(body: nn.Module, head, x: Tensor, classes: Tensor) -> dict[str, Tensor]:
    """The mean over images x (N, C, H, W) of d logit_c / d w: {name: (classes, *shape)}.

    Where there is a logit for every pixel, of their mean. Of the weights of `body`, with `head`
    (features -> logits) held fixed; no labels are used. Signs are kept, so images may cancel each
    other (the released code takes this mean, too).
    """
    weights = {name: weight.detach().requires_grad_() for name, weight in body.named_parameters()}
    G = {name: w.new_zeros(len(classes), *w.shape) for name, w in weights.items()}
    for part in x.split(CHUNK):
        logits = head(functional_call(body, weights, (part,)))
        totals = logits[:, :, None].flatten(2).mean(2).sum(0)[classes] / len(x)
        for c, total in enumerate(totals):
            gradients = torch.autograd.grad(total, list(weights.values()), retain_graph=True)
            for sums, gradient in zip(G.values(), gradients, strict=True):
                sums[c] += gradient
    return G


def sample_jacobians(body: nn.Module, head, x: Tensor, classes: Tensor) -> Tensor:
    """J of every image, (N, classes, n), n all weights of `body` beside each other."""
    weights = {name: weight.detach() for name, weight in body.named_parameters()}

    def one(weights, image):
        return head(functional_call(body, weights, (image[None],)))[0][classes]

    parts = [vmap(jacrev(one), (None, 0))(weights, part) for part in x.split(CHUNK)]
    rows = [torch.cat([g.flatten(2) for g in part.values()], 2) for part in parts]
    return torch.cat(rows).detach()  # the head's weights, too, would be followed


def plain(x: Tensor) -> Tensor:
    """A copy with the strides that a file would give it: they decide about a product's bits."""
    return x.clone(memory_format=torch.contiguous_format)


def leading(J: Tensor, rank: int) -> Tensor:
    """Rows (rank, n) whose squares sum to those of J (N, classes, n) / N as nearly as rank can.

    |rows (w - w*)|^2 is then the best such form for E |J (w - w*)|^2, the generalised Gauss-Newton
    penalty, of which the mean Jacobian's is the smaller part: E[JJ'] >= E[J] E[J]'.
    """
    flat = J.flatten(0, 1) / len(J) ** 0.5
    _, S, V = torch.linalg.svd(flat, full_matrices=False)
    return plain(S[:rank, None] * V[:rank])


# --- compression ---------------------------------------------------------------------------------


def compress(G: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Each tensor of G averaged over its fan-in, then its `rank` leading singular vectors.

    {name + ".U": (outputs, rank), name + ".V": (rank, classes)}, singular values in V. Averaging
    replaces every weight's gradient by its mean over the kernel, so only the *sum* of a kernel's
    weights is held afterwards.
    """
    small = {}
    for name, g in G.items():
        matrix = g.flatten(2).mean(2).T if g.ndim > 2 else g.T  # (outputs, classes)
        U, S, V = torch.linalg.svd(matrix, full_matrices=False)
        small |= {f"{name}.U": plain(U[:, :rank]), f"{name}.V": plain(S[:rank, None] * V[:rank])}
    return small


def numbers(shapes: list[tuple[int, ...]], n_classes: int, rank: int = 1) -> int:
    """How many numbers `compress` keeps: rank (outputs + 1 + classes) for each tensor (VDFD).

    The 1 is the singular value, which `compress` multiplies into V: stored apart as in the paper.
    """
    return sum(rank * (shape[0] + 1 + n_classes) for shape in shapes)


def drift(kept: dict[str, Tensor], weights: dict[str, Tensor], at: Tensor | float = 0.0) -> Tensor:
    """d = G'w - at, (classes,), from G as it is or as `compress` left it; `at` is G'w*.

    Compressed, the sum of each kernel's weights is enough: G is not expanded.
    """
    total = -torch.as_tensor(at, device=next(iter(weights.values())).device)
    for name, w in weights.items():
        if name in kept:
            total = total + kept[name].flatten(1) @ w.flatten()
        else:
            sums = w.flatten(1).sum(1) if w.ndim > 1 else w
            total = total + (sums @ kept[f"{name}.U"]) @ kept[f"{name}.V"]
    return total


# --- the bound -----------------------------------------------------------------------------------


def bound(d: Tensor, P: Tensor, eps: float = EPS) -> tuple[Tensor, Tensor]:
    """d' Sigma^-1 d and log |Sigma|, 0-d, with Sigma^-1 = P P' + eps I (VDFD's loss is their sum).

    By Cholesky in float64: the determinant itself underflows in float32 for some 16 classes. With
    more classes than columns the determinant is that of P'P + eps I (Sylvester).

    Args:
        d: (C,), how far the outputs have moved.
        P: (C, h). With rows of length 1 the sum is at least -C log(1 + eps); without, it has no
            lower bound.
    """
    P, moved = P.double(), d.double()
    quadratic = (P.T @ moved).square().sum() + eps * moved.square().sum()
    small = P if len(P) <= P.shape[1] else P.T
    M = small @ small.T + eps * torch.eye(len(small), dtype=torch.float64, device=P.device)
    log_det = 2 * torch.linalg.cholesky(M).diagonal().log().sum()
    if missing := len(P) - len(small):
        log_det = log_det + missing * log(eps)
    return quadratic.to(d.dtype), -log_det.to(d.dtype)


def covariance(P: Tensor, eps: float = EPS) -> Tensor:
    """Sigma (C, C) for P (C, h)."""
    M = P.double() @ P.double().T + eps * torch.eye(len(P), dtype=torch.float64, device=P.device)
    return torch.cholesky_inverse(torch.linalg.cholesky(M)).to(P.dtype)


def unit(P: Tensor) -> Tensor:
    """Rows (C, h) of length 1; a row of zeros stays so."""
    return F.normalize(P, dim=1)


def affinity(prototypes: Tensor) -> Tensor:
    """D^-1/2 (A + I) D^-1/2 of the cosines A of rows (C, m), negative ones as 0: (C, C).

    The released code keeps negative cosines, whose sums may be 0 or less under the root.
    """
    rows = unit(prototypes)
    A = (rows @ rows.T).clamp(min=0) + torch.eye(len(rows), device=rows.device)
    root = A.sum(1).rsqrt()
    return root[:, None] * A * root


class GCN(nn.Module):
    """Two graph convolutions over the old classes: rows of the head -> rows P of length 1.

    Args:
        width: m, of the head's rows.
        hidden, out: features of the two layers; `out` of at least C lets Sigma be any correlation.
    """

    def __init__(self, width: int, hidden: int, out: int):
        super().__init__()
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, out)

    def forward(self, prototypes: Tensor) -> Tensor:
        """(C, m), a row of the head for each class -> P (C, out)."""
        A = affinity(prototypes)
        return unit(self.second(A @ F.relu(self.first(A @ unit(prototypes)))))


class Free(nn.Module):
    """P itself as weights, for each of `past` experiences: the best that any covariance can do."""

    def __init__(self, past: int, n_classes: int):
        super().__init__()
        self.rows = nn.Parameter(torch.randn(past, n_classes, n_classes))

    def forward(self, k: int, classes: int) -> Tensor:
        """P (classes, n_classes) of the k-th past experience."""
        return unit(self.rows[k, :classes])


def require_turns(shape: tuple[int, int, int], target: str) -> None:
    """Raise UserError unless images (C, H, W) with labels of that kind can be turned."""
    if shape[1] != shape[2] or target != "label":
        raise UserError(
            f"images of {shape[1]}x{shape[2]} with a {target} each cannot be turned by a quarter: "
            "rotate=False."
        )
