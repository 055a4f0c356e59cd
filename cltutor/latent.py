"""A memory of latent codes: one Gaussian per class, and two ways to move it after its encoder.

A memory is {"mean": (n_classes, d), "factor": (n_classes, d, d)}: a code of class c is mean[c] +
factor[c] e with e standard normal.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

RIDGE = 1e-3  # added to the variances of a full covariance: few images may span fewer dimensions


def remember(memory: dict | None, z: Tensor, y: Tensor, n_classes: int, kind: str) -> dict:
    """The memory with the classes of `y` fitted to their codes z (N, d); the others as they were.

    Args:
        kind: of covariance: "gaussian", diagonal; "full"; "prototypes", none.
    """
    d = z.shape[1]
    old = memory or {"mean": torch.zeros(n_classes, d), "factor": torch.zeros(n_classes, d, d)}
    new = {name: tensor.clone() for name, tensor in old.items()}
    for c in y.unique().tolist():
        mine = z[y == c]
        mean = new["mean"][c] = mine.mean(0)
        spread = (mine - mean).T @ (mine - mean) / len(mine)
        if kind == "full":
            new["factor"][c] = torch.linalg.cholesky(spread + RIDGE * torch.eye(d))
        else:
            new["factor"][c] = (kind == "gaussian") * spread.diagonal().sqrt().diag()
    return new


def recall(memory: dict, c: Tensor, rng: torch.Generator) -> Tensor:
    """A code of each class in c (B,): (B, d)."""
    e = torch.randn(len(c), memory["mean"].shape[1], 1, generator=rng)
    return memory["mean"][c] + (memory["factor"][c] @ e).squeeze(2)


def drifted(memory: dict, before: Tensor, after: Tensor, sigma: float) -> dict:
    """Means moved as codes near them moved, from `before` to `after`, both (N, d).

    The change is a mean with weights exp(-|before - mean|^2 / (2 sigma^2)): semantic drift
    compensation, Yu et al. 2020, Eq. 9 to 11.
    """
    gaps = torch.cdist(memory["mean"], before).square()
    change = F.softmax(-gaps / (2 * sigma**2), 1) @ (after - before)
    return memory | {"mean": memory["mean"] + change}


def bridged(memory: dict, before: Tensor, after: Tensor) -> dict:
    """The memory under the affine map that takes codes `before` to `after`, both (N, d), best."""

    def homogeneous(z):
        return torch.cat([z, torch.ones(len(z), 1)], 1)

    W = torch.linalg.lstsq(homogeneous(before), after, driver="gelsd").solution
    return {"mean": homogeneous(memory["mean"]) @ W, "factor": W[:-1].T @ memory["factor"]}
