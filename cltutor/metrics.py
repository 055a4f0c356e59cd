"""What is computed from the accuracy matrix, from sizes and operations, and from samples.

`R[i, j]` is the test accuracy on experience j after training through experience i (0-based), a
(K, K) array in [0, 1] measured everywhere, and `R0[j]` that of the untrained network. A row that
was not measured (an excluded experience) is NaN. No function skips NaN: one that needs such an
entry returns NaN. Arrays may be numpy arrays, CPU tensors or nested lists; wrong shapes and
ranges raise UserError. The papers' tasks 1..N are 0..K-1 in the formulas. "GEM" is Lopez-Paz and
Ranzato 2017, section 2; "DR" is Diaz-Rodriguez et al. 2018, arXiv 1810.13166.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from cltutor.errors import UserError


def _array(values: ArrayLike, name: str, ndim: int = 1) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise UserError(f"{name} must be numbers, in rows of equal length") from None
    if array.ndim != ndim or not array.size:
        raise UserError(f"{name} must be a non-empty {ndim}-D array; it has shape {array.shape}")
    return array


def _accuracies(values: ArrayLike, name: str, ndim: int) -> np.ndarray:
    array = _array(values, name, ndim)
    # Averaged in single precision, an accuracy may pass 1 by a rounding error.
    if np.any((array < -1e-6) | (array > 1 + 1e-6)):
        raise UserError(f"{name} must lie in [0, 1]; divide percentages by 100")
    return array


def _matrix(R: ArrayLike, smallest: int = 1) -> np.ndarray:
    R = _accuracies(R, "R", 2)
    if R.shape[0] != R.shape[1] or len(R) < smallest:
        raise UserError(f"R must be (K, K) with K >= {smallest}; it has shape {R.shape}")
    return R


def _positive(values: ArrayLike, name: str) -> np.ndarray:
    array = _array(values, name)
    if not np.all(array > 0):
        raise UserError(f"{name} must be positive numbers, one per experience")
    return array


def acc(R: ArrayLike) -> float:
    """Average accuracy at the end: mean_j R[K-1, j], in [0, 1], unweighted. GEM, eq. ACC."""
    return float(_matrix(R)[-1].mean())


def bwt(R: ArrayLike) -> float:
    """Backward transfer: sum_{j<K-1} (R[K-1, j] - R[j, j]) / (K-1), in [-1, 1]. GEM, eq. BWT.

    Negative is forgetting. K >= 2. GEM's own code divides by K; `bwt_dr` averages over all pairs
    i > j and not only over the last row.
    """
    R = _matrix(R, 2)
    return float((R[-1] - R.diagonal())[:-1].mean())


def fwt(R: ArrayLike, R0: ArrayLike) -> float:
    """Forward transfer: sum_{j>0} (R[j-1, j] - R0[j]) / (K-1), in [-1, 1]. GEM, eq. FWT.

    `R0` (K,) holds the accuracies of the untrained network. K >= 2. Class-incremental learning
    with one head over all classes makes this void: classes not met yet are never predicted,
    R[j-1, j] is 0 and FWT is minus chance for every method. Continuum's FWT leaves R0 out.
    """
    R, R0 = _matrix(R, 2), _accuracies(R0, "R0", 1)
    if R0.shape != (len(R),):
        raise UserError(f"R0 must hold one accuracy per experience, {len(R)}; got {R0.shape}")
    return float((R.diagonal(1) - R0[1:]).mean())


def forgetting(R: ArrayLike) -> float:
    """Forgetting: sum_{j<K-1} (max_{i<K-1} R[i, j] - R[K-1, j]) / (K-1), in [-1, 1].

    Lower is better; negative means that the last experience improved the others beyond their
    best. The maximum runs over every row but the last, as Chaudhry et al. 2018 (RWalk, section
    3) define it; Continuum takes i >= j only, Avalanche R[j, j], which is -bwt. K >= 2.
    """
    R = _matrix(R, 2)
    return float((R[:-1].max(axis=0) - R[-1])[:-1].mean())


def accuracy_dr(R: ArrayLike) -> float:
    """Accuracy over time: sum_{i>=j} R[i, j] / (K(K+1)/2), in [0, 1]. DR, metric A.

    The mean of the diagonal and the lower triangle, so early rows count too, unlike in `acc`.
    """
    R = _matrix(R)
    return float(R[np.tril_indices(len(R))].mean())


def bwt_dr(R: ArrayLike) -> float:
    """Backward transfer: sum_{i>0} sum_{j<i} (R[i, j] - R[j, j]) / (K(K-1)/2), in [-1, 1].

    DR, metric BWT: averaged over every pair i > j. K >= 2. Implementations in circulation divide
    by K(K+1)/2, or let j run over the future as well; both are wrong.
    """
    R = _matrix(R, 2)
    i, j = np.tril_indices(len(R), -1)
    return float((R[i, j] - R[j, j]).mean())


def rem(R: ArrayLike) -> float:
    """Remembering: 1 - |min(bwt_dr, 0)|, in [0, 1]; 1 is no forgetting. DR, metric REM."""
    return float(1 + np.minimum(bwt_dr(R), 0))


def bwt_plus(R: ArrayLike) -> float:
    """Positive backward transfer: max(bwt_dr, 0), in [0, 1]. DR, metric BWT+."""
    return float(np.maximum(bwt_dr(R), 0))


def fwt_dr(R: ArrayLike) -> float:
    """Forward transfer: sum_{i<j} R[i, j] / (K(K-1)/2), in [0, 1]. DR, metric FWT.

    Unlike GEM's it subtracts no baseline: chance counts as transfer. K >= 2.
    """
    R = _matrix(R, 2)
    return float(R[np.triu_indices(len(R), 1)].mean())


def model_size_efficiency(sizes: ArrayLike) -> float:
    """MS = min(1, (1/K) sum_i Mem(theta_0) / Mem(theta_i)), in (0, 1]; 1 is no growth. DR.

    `sizes` (K,): what is held after each experience, in parameters or bytes. The value depends
    wholly on what is counted as theta: see `ms_conventions`.
    """
    sizes = _positive(sizes, "sizes")
    return float(min(1.0, (sizes[0] / sizes).mean()))


def ms_conventions(solver: float, generator: float, K: int) -> dict[str, float]:
    """The three readings of MS for generative replay over `K` experiences, each in (0, 1].

    `solver`, `generator`: sizes in parameters or bytes. "constant pair": both networks exist from
    the first experience on, nothing grows; "copies counted": from the second on, the frozen copies
    of both count too; "solver first": the first experience needs the solver only, later ones the
    pair. Papers seldom say which of them they report.
    """
    pair = _positive([solver, generator], "solver and generator").sum()
    return {
        "constant pair": model_size_efficiency([pair] * K),
        "copies counted": model_size_efficiency([pair] + [2 * pair] * (K - 1)),
        "solver first": model_size_efficiency([solver] + [pair] * (K - 1)),
    }


def sample_storage_efficiency(stored: ArrayLike, total: float) -> float:
    """SSS = 1 - min(1, (1/K) sum_i Mem(M_i) / Mem(D)), in [0, 1]; 1 is nothing stored. DR.

    `stored` (K,): real samples kept after each experience; `total`: all training samples of the
    stream; both in samples or both in bytes.
    """
    stored = _array(stored, "stored")
    if not np.all(stored >= 0) or not total > 0:
        raise UserError("stored must be numbers >= 0, one per experience, and total above 0")
    return float(1 - min(1.0, (stored / total).mean()))


def computational_efficiency(pass_ops: ArrayLike, total_ops: ArrayLike, eps: float = 1) -> float:
    """CE = min(1, (1/K) sum_i eps * pass_ops_i / (1 + total_ops_i)), in [0, 1]. DR, metric CE.

    `pass_ops` (K,): multiply-adds of one forward and backward pass over the training set of
    experience i; `total_ops` (K,): all those spent learning it, replay and generator included;
    `eps`: about the number of epochs. The `1 +` and the role of `eps` are not checked against the
    paper's text; compare values of one `eps` only.
    """
    pass_ops, total_ops = _positive(pass_ops, "pass_ops"), _positive(total_ops, "total_ops")
    if pass_ops.shape != total_ops.shape or not eps > 0:
        raise UserError("pass_ops and total_ops need the same length, and eps must be above 0")
    return float(min(1.0, (eps * pass_ops / (1 + total_ops)).mean()))


def class_histogram(labels: ArrayLike, n_classes: int) -> np.ndarray:
    """Relative frequency of each class, (n_classes,) summing to 1; `labels` are ids 0..n-1."""
    labels = np.asarray(labels).reshape(-1)
    outside = (labels < 0) | (labels >= n_classes)
    if labels.dtype.kind not in "iu" or not labels.size or outside.any():
        raise UserError(f"labels must be integer class ids in 0..{n_classes - 1}, at least one")
    return np.bincount(labels, minlength=n_classes) / len(labels)


def histogram_kl(p: ArrayLike, q: ArrayLike) -> float:
    """KL(p || q) = sum_c p_c ln(p_c / q_c), nats, >= 0; infinite where q misses a class of p."""
    p, q = _array(p, "p"), _array(q, "q")
    if p.shape != q.shape or not all(np.all(h >= 0) and abs(h.sum() - 1) < 1e-6 for h in (p, q)):
        raise UserError("p and q must be histograms of one length, each summing to 1")
    held = p > 0
    with np.errstate(divide="ignore"):
        return float(max(0.0, np.sum(p[held] * np.log(p[held] / q[held]))))


def frechet_distance(features_a: ArrayLike, features_b: ArrayLike) -> float:
    """|mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), >= 0, in squared feature units.

    `features_*` (n, d): one row per sample, n >= 2 each; mu and S are the mean and the unbiased
    covariance (Dowson and Landau 1982). FID (Heusel et al. 2017) is this on Inception features:
    say what the features are, and compare values of one n only, as small samples bias it upwards.
    FID's code takes `scipy.linalg.sqrtm`, if need be adds 1e-6 to the diagonal, and drops the
    imaginary part; the nuclear norm below needs neither, also for n < d.
    """
    a, b = _array(features_a, "features_a", 2), _array(features_b, "features_b", 2)
    if a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise UserError(f"features must be (n >= 2, d) with the same d; got {a.shape}, {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise UserError("features hold NaN or infinity; leave those samples out and say so")
    gap = a.mean(axis=0) - b.mean(axis=0)
    centred = ((f - f.mean(axis=0)) / np.sqrt(len(f) - 1) for f in (a, b))
    root_a, root_b = (np.linalg.qr(f, mode="r") for f in centred)
    # S = root^T root: tr S is the sum of the root's squares, and the singular values of
    # root_a root_b^T are the square roots of the eigenvalues of S_a S_b.
    cross = np.linalg.norm(root_a @ root_b.T, "nuc")
    return float(max(0.0, gap @ gap + (root_a**2).sum() + (root_b**2).sum() - 2 * cross))


def _student(values: ArrayLike, level: float) -> tuple[float, float, int]:
    """(mean, t(n-1) s, n), s dividing by n - 1; s is NaN for a single value."""
    values = _array(values, "values")
    if not 0 < level < 1:
        raise UserError(f"level must lie between 0 and 1, such as 0.95; it is {level}")
    n = len(values)
    spread = stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) if n > 1 else np.nan
    return float(values.mean()), float(spread), n


def mean_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """(mean, half width) of the confidence interval of the mean: t(n-1) s / sqrt(n).

    `values` (n,): one per seed; the half width of a single one is NaN. Papers often print
    s / sqrt(n) instead: at n = 5 this is 2.8 times as wide.
    """
    mean, spread, n = _student(values, level)
    return mean, float(spread / np.sqrt(n))


def prediction_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """(low, high) = mean -+ t(n-1) s sqrt(1 + 1/n): where one further run lies, at `level`.

    `values` (n,): one per seed, taken as normal draws; both ends are NaN for a single one.
    """
    mean, spread, n = _student(values, level)
    half = float(spread * np.sqrt(1 + 1 / n))
    return mean - half, mean + half
