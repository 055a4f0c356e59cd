"""Linear probes: how much of an experience can be read off the features of a network.

A probe freezes the body of a network, the role "features", and fits a new head for one experience
on all its training images; its test accuracy is LP[i, j] after experience i on experience j, past
or future, and LP0[j] in the untrained body. `fit(watch={"body": snapshot})` keeps a frozen copy
after every experience, of any method, and all else here is computed from these copies. Formulas and
the "sgd" probe are those of Hess et al. 2023, arXiv 2304.00933, and of its code.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from cltutor.errors import UserError
from cltutor.seeds import build, frozen_copy, split_seed
from cltutor.stream import Stream, Tick, batches

Kind = Literal["logistic", "sgd", "knn", "mean"]
Bodies = Sequence[nn.Module]
CHUNK = 500  # images whose features are computed at once


def snapshot(tick: Tick) -> nn.Module:
    """For `watch`: a frozen copy of the body, which later training does not touch."""
    return frozen_copy(tick.learner["features"])


def known(kind: str) -> str:
    """`kind`, if there is such a probe; else UserError."""
    if kind not in get_args(Kind):
        raise UserError(f"unknown probe {kind!r}: choose one of {', '.join(get_args(Kind))}.")
    return kind


@torch.no_grad()
def features(body: nn.Module, x: torch.Tensor) -> np.ndarray:
    """What the body makes of images (N, C, H, W) in [0, 1]: (N, d) float64."""
    device = next(body.parameters(), x).device
    parts = [body(part.to(device)).flatten(1).cpu() for part in x.split(CHUNK)]
    return torch.cat(parts).double().numpy()


def probe(
    train: ArrayLike, y: ArrayLike, test: ArrayLike, y_test: ArrayLike, kind: Kind = "logistic"
) -> float:
    """Test accuracy in [0, 1] of a new head on features `train`, `test` (N, d), classes y (N,).

    Args:
        kind: "logistic": scikit-learn's logistic regression, L2 with C = 1, on features
            standardised by the training set; "sgd": the paper's, see `sgd_head`; "knn": the 10
            nearest training images, "mean": the nearest class mean, both on standardised features.
    """
    train, y, test, y_test = (np.asarray(one) for one in (train, y, test, y_test))
    if known(kind) == "sgd":
        return float((sgd_head(train, y)(test) == y_test).mean())
    heads = {
        "logistic": LogisticRegression(C=1.0, max_iter=300),
        "knn": KNeighborsClassifier(min(10, len(train))),
        "mean": NearestCentroid(),
    }
    return float(make_pipeline(StandardScaler(), heads[kind]).fit(train, y).score(test, y_test))


def sgd_head(train: np.ndarray, y: np.ndarray, epochs: int = 100, seed: int = 0):
    """The paper's probe, as a function: features (N, d) -> classes (N,).

    SGD with momentum 0.9 and batches of 128 for `epochs` passes, learning rate 0.1, times 0.2 after
    60, 75 and 90 % of them; features as they are, no L2. The last batch of a pass is dropped when
    it is not full, as in the paper's code, unless there is no other.
    """
    names, y = np.unique(y, return_inverse=True)
    x, y = torch.as_tensor(train, dtype=torch.float32), torch.as_tensor(y)
    head = build("probe", partial(nn.Linear, x.shape[1], len(names)), seed)
    steps = epochs * max(1, len(x) // 128)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9)
    falls = [round(share * steps) for share in (0.6, 0.75, 0.9)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, falls, 0.2)
    for images, classes in batches(x, y, 128, steps, split_seed(seed, 0, "probe")["probe"]):
        optimizer.zero_grad()
        F.cross_entropy(head(images), classes).backward()
        optimizer.step()
        schedule.step()
    weight, bias = (part.detach().double().numpy() for part in (head.weight, head.bias))
    return lambda test: names[(test @ weight.T + bias).argmax(1)]


def lp_matrix(
    bodies: Bodies, stream: Stream, kind: Kind = "logistic", only: Collection[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(LP, LP0): probes of every experience in every body; (K, K) and (K,), in [0, 1].

    Args:
        bodies: of the untrained network and after every experience, as `snapshot` keeps them.
        stream: the one that was trained on. The row of an experience that was left out is that of
            the moment before: nothing happened.
        only: the experiences to probe; the columns of the others are NaN.
    """
    return _matrix([[body] for body in every(bodies, stream)], stream, kind, only=only)


def ensemble_matrix(
    bodies: Bodies, stream: Stream, kind: Kind = "logistic", fair: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """As `lp_matrix`, but a probe sees the bodies after 0, 1, ..., i side by side: none is lost.

    Args:
        fair: reduce them to as many as one body has, by the principal components of the training
            images of all experiences, so that every probe has as many inputs as on one body.
    """
    untrained, *copies = every(bodies, stream)
    groups = [[untrained], *(copies[: i + 1] for i in range(len(stream)))]
    return _matrix(groups, stream, kind, fair)


def every(bodies: Bodies, stream: Stream) -> list[nn.Module]:
    """K + 1 bodies: where an experience was left out, that of the moment before."""
    if len(bodies) != len(stream.ks) + 1:
        raise UserError(
            f"{len(bodies)} bodies do not belong to {len(stream.ks)} experiences: one of the "
            'untrained network and one after each, as fit(watch={"body": probe.snapshot}) gives.'
        )
    trained, found = dict(zip(stream.ks, bodies[1:], strict=True)), [bodies[0]]
    for k in range(len(stream)):
        found.append(trained.get(k, found[-1]))
    return found


def _matrix(groups: list[list], stream: Stream, kind: Kind, fair=False, only=None):
    """Rows of probes on groups of bodies whose features stand side by side, as (LP, LP0)."""
    js = sorted(range(len(stream)) if only is None else only)
    exps = [exp for exp in replace(stream, first=0, skipped=()) if exp.k in js]
    made = {
        body: [[features(body, x) for x in (exp.x, exp.x_test)] for exp in exps]
        for body in dict.fromkeys(body for group in groups for body in group)
    }
    rows = np.full((len(groups), len(stream)), np.nan)
    for row, group in zip(rows, groups, strict=True):
        copies = [made[body] for body in dict.fromkeys(group)]  # a second copy adds nothing
        by_experience = zip(*copies, strict=True)
        sides = [[np.hstack(side) for side in zip(*exp, strict=True)] for exp in by_experience]
        if fair and len(copies) > 1:
            axes = PCA(copies[0][0][0].shape[1], svd_solver="covariance_eigh")
            axes.fit(np.vstack([train for train, _ in sides]))
            sides = [[axes.transform(one) for one in both] for both in sides]
        for exp, (train, test) in zip(exps, sides, strict=True):
            row[exp.k] = probe(train, exp.y, test, exp.y_test, kind)
    return rows[1:], rows[0]


def summary(bodies: Bodies, stream: Stream, kind: Kind = "logistic") -> dict:
    """What records hold. Of a run without an experience: its column of LP, all else NaN.

    "LP", "LP0"; "ensemble", with as many features as one body; "CKA": [i][j] compares, on the test
    images of experience j, the features after i with those after j; "tests": test images.
    """
    LP, LP0 = lp_matrix(bodies, stream, kind, stream.skipped or None)
    found = {"LP": LP.round(4).tolist(), "LP0": LP0.round(4).tolist()}
    if stream.skipped:
        return found
    alike, tests = np.full(LP.shape, np.nan), [stream.test(j)[0] for j in range(len(stream))]
    for j, x in enumerate(tests):
        after = [features(body, x) for body in bodies[1:]]
        alike[j:, j] = [cka(after[j], later) for later in after[j:]]
    found |= {"CKA": alike.round(4).tolist(), "tests": [len(x) for x in tests]}
    return found | {"ensemble": ensemble_matrix(bodies, stream, kind)[0].round(4).tolist()}


@dataclass(frozen=True)
class Forgetting:
    """Relative forgetting, and what it is the ratio of.

    Attributes:
        ratio: sum of `lost` by sum of `gained`: at 0 nothing of the gain is lost, at 1 all of it;
            below 0 later experiences added to it. NaN where nothing was gained in all.
        lost, gained: (runs, m), of all experiences that have a moment n later.
        noise: (runs, m) bool: the gain is within two binomial standard errors of zero.
    """

    ratio: float
    lost: np.ndarray
    gained: np.ndarray
    noise: np.ndarray


def relative_forgetting(
    R: ArrayLike, R0: ArrayLike, n: int | Literal["end"] = "end", tests: ArrayLike | None = None
) -> Forgetting:
    """FOR_n = sum_i (R[i, i] - R[i+n, i]) / sum_i (R[i, i] - R[i-1, i]), where R[-1] is R0.

    Pooled over experiences and runs: a mean of single ratios, as the paper's formula is per task,
    explodes as soon as one experience gains little.

    Args:
        R, R0: (K, K) and (K,), or (runs, K, K) and (runs, K); accuracies of probes or of outputs.
        n: experiences later, from 1 on, or "end": after the last one.
        tests: (K,) test images of each experience, for `noise`; without it none is noise.

    Raises:
        UserError: shapes that do not belong together, or no experience n later.
    """
    R, R0 = (np.asarray(one, dtype=float) for one in (R, R0))
    R, R0 = R.reshape(-1, *R.shape[-2:]), R0.reshape(-1, R0.shape[-1])
    runs, K = R0.shape
    if R.shape != (runs, K, K):
        raise UserError(f"R {R.shape} and R0 {R0.shape} are not (runs, K, K) and (runs, K).")
    if n != "end" and n not in range(1, K):
        raise UserError(f"n={n} is neither a number from 1 to {K - 1} nor 'end'.")
    i = np.arange(K - (1 if n == "end" else n))
    own, before = R[:, i, i], np.concatenate([R0[:, None], R], axis=1)[:, i, i]
    lost, gained = own - R[:, K - 1 if n == "end" else i + n, i], own - before
    noise, total = np.zeros(own.shape, dtype=bool), gained.sum()
    if tests is not None:
        variance = (own * (1 - own) + before * (1 - before)) / np.asarray(tests)[i]
        noise = np.abs(gained) <= 2 * np.sqrt(variance)
    return Forgetting(float(lost.sum() / total) if total > 0 else np.nan, lost, gained, noise)


def exclusion(LP: ArrayLike, without: ArrayLike, k: int) -> np.ndarray:
    """What having trained on experience k is worth to its probe: LP[i, k] - without[i, k], (K,).

    `without`: the LP of the same run on `stream.without(k)`. NaN before k, where the two runs are
    one; at k it is what was gained; at 0 it no longer matters that k was ever trained on.
    """
    difference = np.array([a[k] - b[k] for a, b in zip(LP, without, strict=True)], dtype=float)
    difference[:k] = np.nan
    return difference


def cka(a: ArrayLike, b: ArrayLike) -> float:
    """Linear CKA of two sets of features of the same images, (N, d) and (N, e), in [0, 1].

    |B'A|^2 / (|A'A| |B'B|), columns centred, Frobenius norms: 1 if one is a rotation and scaling of
    the other (Kornblith et al. 2019, section 3). NaN for constant features.
    """
    a, b = (np.asarray(one, dtype=float) for one in (a, b))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    norms = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    return float(np.linalg.norm(b.T @ a) ** 2 / norms) if norms else float("nan")
