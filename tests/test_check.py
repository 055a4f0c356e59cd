"""cltutor.check: right answers pass, and every typical mistake gets a hint that names it."""

import math
from math import prod

import numpy as np
import pytest
import torch

from cltutor.check import EXERCISES, Verdict, check
from cltutor.check.hints import Hint
from cltutor.errors import UserError
from tests.test_check_compare import RIGHT as OF_NOTEBOOK_11


def entropy(p):
    return -sum(x * math.log(x) for x in p if x > 0)


def shares(histogram):
    return [x / sum(histogram) for x in histogram]


def by_torch(histogram):
    p = torch.tensor(histogram) / sum(histogram)  # 32-bit floats
    return torch.exp(-torch.special.xlogy(p, p).sum())


def layer(a, b):
    return a * b + b


def feedback(pixels, hidden, latent, n_classes, body=1, head=1, decoder=1, logvar=1, bias=0):
    """Size of the merged network, its parts so often."""
    size = body * (layer(pixels, hidden) + layer(hidden, hidden)) + head * layer(hidden, n_classes)
    size += layer(hidden, latent) + logvar * hidden * latent + bias * latent
    back = layer(latent, hidden) + layer(hidden, hidden) + layer(hidden, pixels)
    return size + decoder * back


def reused(masks):
    return [
        float((mask & masks[:k].any(0)).sum() / max(1, mask.sum())) if k else 0.0
        for k, mask in enumerate(masks)
    ]


def vectorised(masks):
    before = masks.int().cumsum(0) - masks.int() > 0
    return (masks & before).sum(1) / masks.sum(1).clamp(min=1)


def capacity(width, share, k, grow):
    return (width * (1 + share * k), width) if grow else (width, width * (1 - share) ** k)


def springs(theta, anchors, importances, lam):
    return lam / 2 * (importances * (theta - anchors) ** 2).sum()


def later(history, learned):
    """The accuracies on each experience after it was learned, where there are any."""
    columns = [history[at + 1 :, j] for j, at in enumerate(learned)]
    return [column for column in columns if len(column)]


def squares(u, u_):
    return (u - u_).square().flatten(1).sum(1)


def by_class(distances, c):
    return torch.stack([distances[c == one].mean() for one in c.unique()])


def distances(x, y):
    return torch.cdist(x.flatten(1), y.flatten(1))


def by_image(ab):
    return ab.view(-1, 1, 1, 1)


def odds(ab):
    """Noise by signal in the variance of u_t, a factor for each image."""
    return by_image((1 - ab) / ab)


def radii(real):
    return distances(real, real).fill_diagonal_(math.inf).min(1).values


def best(R, R0, start=lambda i: i, end=1, numerator=True, denominator=True, last=1):
    """Forgetting relative to the best of rows start(i) to K - end, where these are asked for."""
    K, lost, gained = len(R), 0.0, 0.0
    for i in range(K - last):
        top = max(R[start(i) : max(i + 1, K - end), i])
        before = R[i - 1, i] if i else R0[0]
        lost += (top if numerator else R[i, i]) - R[-1, i]
        gained += (top if denominator else R[i, i]) - before
    return lost / gained


def mean_of_ratios(R, R0):
    K = len(R)
    tops = [max(R[i : K - 1, i]) for i in range(K - 1)]
    before = [R0[0], *(R[i - 1, i] for i in range(1, K - 1))]
    pairs = zip(tops, before, R[-1], strict=False)
    return sum((top - end) / (top - start) for top, start, end in pairs) / (K - 1)


def from_r0(R, R0):
    tops = np.array([max(R[i : len(R) - 1, i]) for i in range(len(R) - 1)])
    return (tops - R[-1, :-1]).sum() / (tops - R0[:-1]).sum()


def gains(R, last=0.8):
    """A case below 0 but for its last row or its gains."""
    R = np.array(R, dtype=float)
    R[-1, :2] = last
    return R, np.full(3, 0.5)


STEPS = [[0.6, 0.5, 0.5], [0.7, 0.6, 0.5], [0.8, 0.7, 0.6]]


def few(y, n, rng):
    return np.concatenate([rng.permutation(np.flatnonzero(y == c))[:n] for c in np.unique(y)])


def weighted_mean(x_t, images, ab, scale=0.5, spread=1.0, power=2, result=1.0):
    """The mean of the images by their densities at x_t; the arguments make it wrong."""
    gaps = torch.cdist(x_t.flatten(1), ab**scale * images.flatten(1)) ** power
    shares = (-gaps / (2 * spread * (1 - ab))).softmax(1)
    return result * (shares @ images.flatten(1)).view_as(x_t)


def known_distillation(logits, teacher, known):
    p, log_q = teacher[:, known].softmax(1), logits[:, known].log_softmax(1)
    return -(p * log_q).sum(1).mean()


def each(matrix):
    """Pixels that have or were given each class."""
    return matrix.sum(0) + matrix.sum(1) - matrix.diagonal()


def mean_iou(matrix):
    return (matrix.diagonal() / each(matrix))[matrix.sum(1) > 0].mean()


def pseudo(y, logits, threshold):
    sure, guess = logits.softmax(1).max(1)
    return torch.where((y == 0) & (sure > threshold), guess, y)


def kept_numbers(shapes, classes, rank, value=1, each=None):
    return sum(
        rank * (shape[0] + value + classes) if len(shape) > 1 else shape[0] * (each or classes)
        for shape in shapes
    )


def surest(logits, quota, score=lambda logits: logits.softmax(1)):
    label, kept = logits.argmax(1), []
    value = score(logits)[torch.arange(len(logits)), label]
    for c in range(logits.shape[1]):
        mine = (label == c).nonzero().flatten()
        kept.append(mine[value[mine].argsort(descending=True)[:quota]])
    return torch.cat(kept)


def first_of_each(logits, quota):
    label = logits.argmax(1)
    return torch.cat([(label == c).nonzero().flatten()[:quota] for c in range(2)])


def densities(x_t, images, ab):
    gaps = torch.cdist(x_t.flatten(1), ab**0.5 * images.flatten(1)) ** 2
    weights = torch.exp(-gaps / (2 * (1 - ab)))
    return (weights / weights.sum(1, keepdim=True) @ images.flatten(1)).view_as(x_t)


def nearest_image(x_t, images, ab):
    return images[torch.cdist(x_t.flatten(1), ab**0.5 * images.flatten(1)).argmin(1)]


def by_ratio(ab, steps, measure=lambda ab: (ab / (1 - ab)).log()):
    values = measure(ab)
    wanted = torch.linspace(values.min(), values.max(), steps, dtype=ab.dtype)
    return sorted(set((values[:, None] - wanted).abs().argmin(0).tolist()), reverse=True)


def densities_of(z, mean, std, half=0.5, logs=1.0):
    gaps = ((z[:, None] - mean) / std).square().sum(2)
    return -half * gaps - logs * std.log().sum(1)


def free(A, eps, one=1, mean=True, power=2):
    """The share of directions that a layer has free; the arguments make it wrong."""
    A = torch.nn.functional.pad(A, (0, one), value=1.0).double()
    values = torch.zeros(A.shape[1], dtype=torch.double)
    found = torch.linalg.svdvals(A / (len(A) ** 0.5 if mean else 1))
    values[: len(found)] = found**power
    return (eps / (values + eps)).mean()


RIGHT = {
    "04-by-memory": [
        lambda z, mean, std: densities_of(z, mean, std).argmax(1),
        lambda z, mean, std: torch.stack(
            [
                torch.distributions.Normal(m, s).log_prob(z).sum(1)
                for m, s in zip(mean, std, strict=True)
            ]
        ).argmax(0),
    ],
    "04-room": [
        free,
        lambda A, eps: float(
            (
                eps
                * torch.linalg.inv(
                    torch.cat([A, torch.ones(len(A), 1)], 1).double().T
                    @ torch.cat([A, torch.ones(len(A), 1)], 1).double()
                    / len(A)
                    + eps * torch.eye(A.shape[1] + 1)
                )
            ).trace()
            / (A.shape[1] + 1)
        ),
    ],
    "05-posterior-mean": [
        weighted_mean,
        lambda x_t, images, ab: torch.stack(
            [
                torch.einsum(
                    "n,n...->...",
                    (-((x - ab**0.5 * images) ** 2).sum((1, 2, 3)) / (2 - 2 * ab)).softmax(0),
                    images,
                )
                for x in x_t
            ]
        ),
    ],
    "05-snr-spacing": [
        by_ratio,
        lambda ab, steps: by_ratio(ab, steps, torch.logit),
    ],
    "06-x0-loss": [
        lambda eps, eps_, ab: (odds(ab) * (eps - eps_) ** 2).mean(),
        lambda eps, eps_, ab: (odds(ab).sqrt() * eps - odds(ab).sqrt() * eps_).pow(2).mean(),
    ],
    "06-pool-steps": [
        lambda steps, batch, S, pool: min(max(steps * batch * S // pool, 1), 1000),
        lambda steps, batch, S, pool: sorted((1, steps * batch * S // pool, 1000))[1],
    ],
    "07-known-distillation": [
        known_distillation,
        lambda logits, teacher, known: torch.nn.functional.cross_entropy(
            logits[:, known], teacher[:, known].softmax(1)
        ),
    ],
    "07-surest": [
        surest,
        lambda logits, quota: surest(logits - logits.mean(1, keepdim=True), quota).flip(0),
    ],
    "09-centred": [
        lambda d: (d - d.mean()).square().sum(),
        lambda d: len(d) * d.double().var(correction=0),
    ],
    "09-kept": [kept_numbers, lambda *one: float(kept_numbers(*one))],
    "10-miou": [
        mean_iou,
        lambda m: float(np.nanmean(np.where(m.sum(1) > 0, m.diagonal() / each(m), np.nan))),
    ],
    "10-pseudo": [
        pseudo,
        lambda y, logits, t: y + (y == 0) * (logits.softmax(1).amax(1) > t) * logits.argmax(1),
    ],
    "08-best": [best, lambda R, R0: float(torch.tensor(best(R, R0)))],
    "08-below-zero": [
        lambda: (np.array(STEPS), np.full(3, 0.5)),
        lambda: (STEPS, [0.5, 0.1, 0.1]),
    ],
    "08-few": [
        few,
        lambda y, n, rng: [
            i for c in set(y.tolist()) for i in rng.permutation(np.where(y == c)[0])[:n]
        ],
    ],
    "02-balanced-align": [
        lambda u, u_, c: by_class(squares(u, u_), c).mean(),
        lambda u, u_, c: (squares(u, u_) / (c[:, None] == c).sum(1)).sum() / len(c.unique()),
    ],
    "02-coverage": [
        lambda x, real: (distances(real, x).min(1).values <= radii(real)).float().mean(),
        lambda x, real: (
            float((distances(real, x) <= radii(real)[:, None]).any(1).sum()) / len(real)
        ),
    ],
    "03-reuse": [reused, vectorised],
    "03-capacity": [capacity, lambda *case: np.array(capacity(*case))],
    "00-springs": [
        springs,
        lambda t, a, f, lam: sum(
            (lam * f[n] * (t - a[n]).square() / 2).sum().item() for n in range(len(a))
        ),
        lambda t, a, f, lam: 0.5 * lam * np.einsum("np,np->", f, (t[None] - a) ** 2),
    ],
    "00-worst-accuracy": [
        lambda history, learned: np.mean([column.min() for column in later(history, learned)]),
        lambda history, learned: torch.tensor(
            [min(history[learned[j] + 1 :, j]) for j in range(len(learned) - 1)]
        ).mean(),
    ],
    "01-importance": [
        lambda seen, importance: importance / (importance + seen),
        lambda seen, importance: np.float64(1 / (1 + seen / importance)),
        lambda seen, importance: torch.tensor(importance) / torch.tensor([importance + seen]),
    ],
    "01-effective-classes": [
        lambda histogram: math.exp(entropy(shares(histogram))),
        lambda histogram: 2 ** (entropy(shares(histogram)) / math.log(2)),
        by_torch,
    ],
    "01-feedback": [
        lambda p, h, z, c: feedback(p, h, z, c),
        lambda p, h, z, c: float(p * h * 2 + 2 * h * h + 3 * h * z + h * c + 4 * h + z + p + c),
    ],
}

WRONG = {
    "04-by-memory": [
        (lambda z, mean, std: densities_of(z, mean, std), "one class for each z"),
        (lambda z, mean, std: densities_of(z, mean, std).argmin(1), "take the largest density"),
        (lambda z, mean, std: torch.cdist(z, mean).argmin(1), "That is the nearest mean"),
        (lambda z, mean, std: densities_of(z, mean, std, logs=0).argmax(1), "thinner everywhere"),
        (lambda z, mean, std: densities_of(z, mean, std, logs=2).argmax(1), "once per dimension"),
        (lambda z, mean, std: densities_of(z, mean, std, half=1).argmax(1), "a factor 1/2"),
        (lambda z, mean, std: densities_of(z.abs() + 2, mean, std).argmax(1), "at the mean of"),
    ],
    "04-room": [
        (lambda A, eps: free(A, eps, one=0), "Append a 1"),
        (lambda A, eps: 1 - free(A, eps), "directions that are taken"),
        (lambda A, eps: 3 * free(A, eps), "Divide by the number of inputs"),
        (lambda A, eps: free(A, eps, mean=False), "a mean over images"),
        (lambda A, eps: free(A, eps, power=1), "squares of singular values"),
        (lambda A, eps: 0.25, "1/3 is free"),
        (lambda A, eps: 1 / 3, "should give 0.548"),
        (lambda A, eps: "x", "Return one number"),
    ],
    "05-posterior-mean": [
        (lambda x, images, ab: 0.0, "Return a tensor"),
        (lambda x, images, ab: weighted_mean(x, images, ab)[0], "One image for each x_t"),
        (lambda x, images, ab: weighted_mean(x, images, ab, scale=0), "not around the image"),
        (lambda x, images, ab: weighted_mean(x, images, ab, scale=1), "the root of ab_t"),
        (lambda x, images, ab: weighted_mean(x, images, ab, spread=0.5), "factor 1/2"),
        (
            lambda x, images, ab: weighted_mean(x, images, ab, spread=(1 - ab) ** -0.5),
            "is the variance",
        ),
        (
            lambda x, images, ab: weighted_mean(x, images, ab, spread=1 / (1 - ab)),
            "depends on ab_t",
        ),
        (lambda x, images, ab: weighted_mean(x, images, ab, power=1), "square distance"),
        (lambda x, images, ab: weighted_mean(x, images, ab, result=ab**0.5), "weights alone"),
        (nearest_image, "the likeliest image"),
        (lambda x, images, ab: images.mean(0).expand_as(x), "over the images"),
        (lambda x, images, ab: 0.5 * x, "get other weights"),
        (densities, "take a softmax"),
    ],
    "05-snr-spacing": [
        (lambda ab, steps: 5, "Return a list of times"),
        (lambda ab, steps: by_ratio(ab, steps)[::-1], "noisiest time comes first"),
        (lambda ab, steps: [6, 4, 4, 3, 2, 0], "comes twice is kept once"),
        (lambda ab, steps: by_ratio(ab, steps, lambda ab: ab), "evenly spaced in ab"),
        (lambda ab, steps: by_ratio(ab, steps, torch.log), "in log ab"),
        (lambda ab, steps: [5, 3, 1], "was to come out"),
        (lambda ab, steps: [6, 4, 3, 2, 0], "With 6 values"),
        (lambda ab, steps: tuple(by_ratio(ab, steps)), "takes a list"),
    ],
    "06-x0-loss": [
        (lambda eps, eps_, ab: (eps - eps_).square().mean(), "Eq. 3 itself"),
        (lambda eps, eps_, ab: ((eps - eps_).square() / odds(ab)).mean(), "Upside down"),
        (lambda eps, eps_, ab: (odds(ab).sqrt() * (eps - eps_).square()).mean(), "square it"),
        (lambda eps, eps_, ab: (odds(ab) * by_image(ab) * (eps - eps_) ** 2).mean(), "Divide by"),
        (lambda eps, eps_, ab: ((eps - eps_).square() / by_image(ab)).mean(), "of its own"),
        (
            lambda eps, eps_, ab: (odds(ab) * (eps - eps_) ** 2).flatten(1).sum(1).mean(),
            "over pixels",
        ),
        (
            lambda eps, eps_, ab: (odds(ab) * (eps - eps_) ** 2).flatten(1).mean(1).sum(),
            "over images",
        ),
        (lambda eps, eps_, ab: 3.0, "This should give"),
        (lambda eps, eps_, ab: (odds(ab) * (eps - eps_) ** 2).mean().item(), "differentiated"),
    ],
    "06-pool-steps": [
        (lambda steps, batch, S, pool: steps * batch // pool, "multiply by S"),
        (lambda steps, batch, S, pool: steps * batch * S**2 // pool, "not twice"),
        (lambda steps, batch, S, pool: 7, "100 each"),
        (lambda steps, batch, S, pool: steps * batch * S / pool, "round down"),
        (lambda steps, batch, S, pool: -(-steps * batch * S // pool), "costs more"),
        (lambda steps, batch, S, pool: 100 if pool == 384 else 5, "2 each"),
        (lambda steps, batch, S, pool: min(steps * batch * S // pool, 1000), "one step at least"),
        (lambda steps, batch, S, pool: max(steps * batch * S // pool, 1), "at most 1,000"),
        (lambda steps, batch, S, pool: min(max(steps * batch * S // pool, 1), 999), "between 1"),
    ],
    "07-known-distillation": [
        (lambda a, b, known: known_distillation(a, b, known | True), "all classes"),
        (
            lambda a, b, known: (
                -(b[:, known].softmax(1) * a.log_softmax(1)[:, known]).sum(1).mean()
            ),
            "still has",
        ),
        (lambda a, b, known: known_distillation(b, a, known), "other way round"),
        (lambda a, b, known: known_distillation(a, b, known) * len(a), "not its sum"),
        (lambda a, b, known: known_distillation(a, b, known) / 2, "not their mean"),
        (
            lambda a, b, known: torch.nn.functional.kl_div(
                a[:, known].log_softmax(1), b[:, known].softmax(1), reduction="batchmean"
            ),
            "That is KL",
        ),
        (lambda a, b, known: 3.0, "This should give"),
        (lambda a, b, known: known_distillation(a, b, known).item(), "differentiated"),
        (lambda a, b, known: known_distillation(a[:, :2], b[:, :2], known[:2] | True), "any of"),
    ],
    "07-surest": [
        (lambda logits, quota: first_of_each(logits, quota), "first of each"),
        (lambda logits, quota: logits.softmax(1).max(1).values.topk(quota).indices, "per label"),
        (lambda logits, quota: torch.tensor([0, 2]), "came back"),
        (lambda logits, quota: surest(logits, quota, lambda one: one), "larger probability"),
        (lambda logits, quota: surest(logits, quota, lambda one: -one.softmax(1)), "least sure"),
        (lambda logits, quota: surest(logits, 2), "images 1 and 2"),
        (lambda logits, quota: surest(logits, min(quota, 2)), "keeps all"),
        (lambda logits, quota: [1, 2, 3, 4], "Return indices"),
        (lambda logits, quota: surest(logits, quota).float(), "integers"),
        (lambda logits, quota: torch.tensor([1, 1, 2, 4]), "kept once"),
    ],
    "09-centred": [
        (lambda d: d.square().sum(), "common shift"),
        (lambda d: d.var(correction=0), "not their mean"),
        (lambda d: d.var(), "degree less"),
        (lambda d: (d - d.mean()).norm(), "not the length"),
        (lambda d: d.square().sum() - d.mean().square(), "every output"),
        (lambda d: 3.0, "should give 14"),
        (lambda d: (d - 3).square().sum(), "by 100"),
        (lambda d: (d - d.mean()).square().sum().item(), "differentiated"),
    ],
    "09-kept": [
        (lambda shapes, classes, rank: kept_numbers(shapes, classes, 1), "not one"),
        (lambda shapes, classes, rank: sum(prod(s) for s in shapes) * classes, "but its first"),
        (
            lambda shapes, classes, rank: kept_numbers(shapes, classes, rank, value=0),
            "singular value",
        ),
        (lambda shapes, classes, rank: 3, "it is 20"),
        (lambda shapes, classes, rank: kept_numbers(shapes[:1], classes, rank), "one axis are"),
        (lambda shapes, classes, rank: rank * sum(s[0] + 1 + classes for s in shapes), "as it is"),
        (
            lambda shapes, classes, rank: kept_numbers(shapes, classes, rank, each=1),
            "a row for every",
        ),
        (lambda shapes, classes, rank: 20 * len(shapes) + (len(shapes) > 1), "beside it"),
        (
            lambda shapes, classes, rank: sum(
                rank * (s[0] + 1 + classes) if len(s) == 4 else prod(s) * classes for s in shapes
            ),
            "without places",
        ),
    ],
    "10-miou": [
        (lambda m: (m.diagonal() / each(m).clamp(min=1)).mean(), "not as 0"),
        (lambda m: m.diagonal().sum() / m.sum(), "share of right pixels"),
        (lambda m: (m.diagonal() / m.sum(1))[m.sum(1) > 0].mean(), "too"),
        (lambda m: (m.diagonal() / (m.sum(0) + m.sum(1)))[m.sum(1) > 0].mean(), "count them once"),
        (lambda m: 0.6, "it is 0.5000"),
        (lambda m: mean_iou(m) if m.sum() > 5 else 0.9, "the mean is 1"),
    ],
    "10-pseudo": [
        (lambda y, logits, t: pseudo(y, logits, t).flatten(), "shape of y"),
        (lambda y, logits, t: y.copy_(pseudo(y, logits, t)), "Leave y"),
        (
            lambda y, logits, t: torch.where(logits.softmax(1).amax(1) > t, logits.argmax(1), y),
            "A new",
        ),
        (
            lambda y, logits, t: torch.where(
                (y < 1) & (logits.softmax(1).amax(1) > t), logits.argmax(1), y
            ),
            "-100 stays",
        ),
        (lambda y, logits, t: y.clone(), "The first pixel"),
        (
            lambda y, logits, t: torch.where((y == 0) & (logits.amax(1) > t), logits.argmax(1), y),
            "no probabilities",
        ),
        (
            lambda y, logits, t: torch.where(
                (y == 0) & (logits.softmax(1).amax(1) > t), logits[:, 1:].argmax(1) + 1, y
            ),
            "own choice",
        ),
    ],
    "08-best": [
        (lambda R, R0: best(R, R0, numerator=False, denominator=False), "That is FOR at the end"),
        (lambda R, R0: best(R, R0, denominator=False), "in the numerator alone"),
        (lambda R, R0: best(R, R0, numerator=False), "in the denominator alone"),
        (lambda R, R0: best(R, R0, last=0), "leave it out of both sums"),
        (lambda R, R0: best(R, R0, start=lambda i: 0, end=0), "rows from i on"),
        (from_r0, "R0 is that of the first alone"),
        (mean_of_ratios, "mean of the single ratios"),
        (lambda R, R0: best(R, R0, end=0), "leave it out of the best"),
        (lambda R, R0: 0.7, "it is -2; 0.7 came back"),
        (lambda R, R0: 0.1, "it is 0.7 / 1.0; 0.1 came back"),
        (lambda R, R0: None, "Return one number"),
    ],
    "08-below-zero": [
        (lambda: np.array(STEPS), "Return two things"),
        (lambda: (np.eye(2), np.zeros(3)), "(3, 3); yours is (2, 2)"),
        (lambda: (STEPS, 0.5), "(3,); yours is ()"),
        (lambda: (np.array(STEPS) + 0.5, np.full(3, 0.5)), "between 0 and 1"),
        (lambda: gains(np.full((3, 3), 0.6)), "Yours gain 0.10, 0.00, 0.00"),
        (lambda: gains(STEPS, 0.9), "must not pass 0.8"),
        (lambda: gains(STEPS, 0.62), "at the end is -0.20"),
    ],
    "08-few": [
        (lambda y, n, rng: y == y[0], "whole numbers in one array"),
        (lambda y, n, rng: rng.choice(len(y), 5), "twice"),
        (lambda y, n, rng: np.unique(y + 5), "outside y"),
        (lambda y, n, rng: rng.permutation(len(y))[:5], "two 3s, two 7s and the only 9"),
        (
            lambda y, n, rng: np.concatenate([np.where(y == c)[0][:n] for c in np.unique(y)]),
            "at random",
        ),
        (lambda y, n, rng: few(y, n, np.random.default_rng()), "from `rng` alone"),
        (
            lambda y, n, rng: np.concatenate(
                [rng.permutation(np.where(y == c)[0][:4])[:n] for c in np.unique(y)]
            ),
            "never drawn",
        ),
    ],
    "02-balanced-align": [
        (lambda u, u_, c: squares(u, u_).mean(), "drawn more often counts more"),
        (lambda u, u_, c: by_class(squares(u, u_), c).sum(), "not their sum"),
        (lambda u, u_, c: squares(u, u_).sum(), "not all squares' sum"),
        (lambda u, u_, c: by_class(squares(u, u_).sqrt(), c).mean(), "are distances"),
        (lambda u, u_, c: by_class(squares(u, u_) / 2, c).mean(), "a mean over pixels"),
        (lambda u, u_, c: by_class(squares(u, u_), c).sum() / (c.max() + 1), "in c"),
        (lambda u, u_, c: by_class(squares(u, u_), c).max(), "should give 5; 9.000"),
        (
            lambda u, u_, c: by_class(squares(u, u_), c).mean() if len(c) > 1 else 0.0,
            "a single class",
        ),
        (lambda u, u_, c: by_class(squares(u, u_), c).mean().item(), "differentiated"),
        (lambda u, u_, c: by_class(squares(u, u_), c), "Return one number"),
    ],
    "02-coverage": [
        (
            lambda x, real: (
                (distances(real, x).min(1).values <= distances(real, real).min(1).values)
                .float()
                .mean()
                if len(x) != len(real)
                else 0.0
            ),
            "its own neighbour",
        ),
        (
            lambda x, real: (distances(x, real) <= radii(real)).any(1).float().mean(),
            "near a real one",
        ),
        (
            lambda x, real: (
                (distances(real, x) <= radii(real)[:, None]).any(1).sum() if len(x) != 3 else 1.0
            ),
            "divide by",
        ),
        (
            lambda x, real: (distances(real, x).min(1).values <= radii(real).max()).float().mean(),
            "its own",
        ),
        (lambda x, real: 2 / 3 if len(x) > 1 else 0.0, "radius is 2"),
        (lambda x, real: 0.4, "Two of three real images"),
        (
            lambda x, real: (distances(real, x).min(1).values < radii(real)).float().mean(),
            "very radius",
        ),
    ],
    "03-reuse": [
        (lambda masks: [1.0, 1.0, 1.0], "not part of its own past"),
        (
            lambda masks: (
                [0.0] + [(a & b).sum() / b.sum() for a, b in zip(masks, masks[1:], strict=False)]
            ),
            "not only the last",
        ),
        (
            lambda masks: (
                [0.0]
                + [
                    (m & masks[:k].any(0)).sum() / masks[:k].any(0).sum()
                    for k, m in enumerate(masks)
                    if k
                ]
            ),
            "size of the mask",
        ),
        (
            lambda masks: (
                [0.0] + [(m & masks[:k].any(0)).float().mean() for k, m in enumerate(masks) if k]
            ),
            "not by all units",
        ),
        (lambda masks: [1 - x for x in reused(masks)], "share of new units"),
        (
            lambda masks: [x * m.sum() for x, m in zip(reused(masks), masks, strict=True)],
            "numbers of units",
        ),
        (lambda masks: [0.5, 2 / 3, 3 / 5], "nothing in it can be reused"),
        (lambda masks: [0.0, 0.1, 0.2], "not 0.000, 0.100, 0.200"),
        (lambda masks: 0.5, "float came back"),
        (lambda masks: [0.0, 0.5], "2 came back"),
        (
            lambda masks: (masks & (masks.int().cumsum(0) - masks.int() > 0)).sum(1) / masks.sum(1),
            "0 divided by 0",
        ),
        (lambda masks: reused(masks) if len(masks) > 1 else [1.0], "without units reuses none"),
    ],
    "03-capacity": [
        (lambda *case: capacity(*case)[::-1], "units first"),
        (
            lambda w, s, k, g: capacity(w, s, k, g) if g else (w, w * max(0, 1 - k * s)),
            "a share of what is still free",
        ),
        (lambda w, s, k, g: capacity(w, s, k, g) if g else (w, w * s**k), "1 - share"),
        (lambda w, s, k, g: capacity(w, s, k, False), "grows by what each mask takes"),
        (
            lambda w, s, k, g: (w * (1 + s) ** k, w) if g else capacity(w, s, k, g),
            "not grow by a factor",
        ),
        (lambda w, s, k, g: (w + 1, w), "32 units, 32 of them free; 33 and 32"),
        (lambda w, s, k, g: w, "int came back"),
    ],
    "00-springs": [
        (lambda t, a, f, lam: 2 * springs(t, a, f, lam), "1/2 is missing"),
        (lambda t, a, f, lam: lam / 2 * (f.sum(0) * (t - a[-1]) ** 2).sum(), "the kit's form"),
        (lambda t, a, f, lam: springs(t, a[-1], f[-1], lam), "Only the latest anchor"),
        (lambda t, a, f, lam: springs(t, a[0], f[0], lam), "Only the first anchor"),
        (lambda t, a, f, lam: springs(t, a, f, lam) / len(a), "mean over the experiences"),
        (lambda t, a, f, lam: springs(t, a, f, 1), "no influence"),
        (lambda t, a, f, lam: lam / 2 * ((f * (t - a)) ** 2).sum(), "single anchor it is Eq. 2"),
        (lambda t, a, f, lam: lam / 2 * (f * (t - a)).sum(), "single anchor it is Eq. 2"),
        (lambda t, a, f, lam: springs(t, a.mean(0), f.sum(0), lam), "it is 50; 42.5 came back"),
        (lambda t, a, f, lam: f * (t - a) ** 2, "Tensor came back"),
        (lambda t, a, f, lam: None, "NoneType came back"),
    ],
    "00-worst-accuracy": [
        (lambda h, at: np.mean([h[at[j] :, j].min() for j in range(len(at) - 1)]), "one row below"),
        (lambda h, at: h[:, :-1].min(0).mean() if len(h) > 2 else 0.2, "not count"),
        (lambda h, at: h[-1, :-1].mean(), "accuracy at the end"),
        (
            lambda h, at: np.mean([h[at[j + 1 :], j].min() for j in range(len(at) - 1)]),
            "dip is between",
        ),
        (
            lambda h, at: np.mean([column.max() for column in later(h, at)]),
            "best later moment",
        ),
        (
            lambda h, at: sum(column.min() for column in later(h, at)) / max(len(at), 1),
            "no later moment",
        ),
        (
            lambda h, at: (
                sum(column.min() for column in later(h, at)) / (len(at) if len(at) > 2 else 1)
            ),
            "number of all experiences",
        ),
        (
            lambda h, at: (
                np.mean([h[at[j], j] - h[at[j] + 1 :, j].min() for j in range(len(at) - 1)])
                if len(at) > 2
                else 0.2
            ),
            "how low it gets",
        ),
        (lambda h, at: min(column.min() for column in later(h, at)), "asked is the mean"),
        (
            lambda h, at: np.mean([c.mean() for c in later(h, at)]) if len(at) > 2 else 0.2,
            "their mean 0.45",
        ),
        (lambda h, at: np.mean([h[n + 1 :, j].min() for j, n in enumerate(at)]), "stops with"),
        (lambda h, at: later(h, at), "list came back"),
    ],
    "01-importance": [
        (lambda seen, importance: 1 / (seen + 1), "has no influence yet"),
        (
            lambda seen, importance: (importance / (importance + seen)) ** 2,
            "should be 0.250; 0.062",
        ),
        (lambda seen, importance: seen / (importance + seen), "no past"),
        (lambda seen, importance: seen / (importance + seen) if seen else 1, "share of the past"),
        (lambda seen, importance: importance / (seen + 1) if seen else 1, "do not add up to 1"),
        (lambda seen, importance: importance / (seen + 1), "no past"),
        (
            lambda seen, importance: importance / (importance + seen - 1) if seen else 1,
            "current one is not among them",
        ),
        (lambda seen, importance: importance + seen, "no past"),
        (lambda seen, importance: None, "NoneType came back"),
        (lambda seen, importance: (0.5, 0.5), "tuple came back"),
        (lambda seen, importance: "a half", "str came back"),
        (lambda seen, importance: float("nan"), "NaN came back"),
        (lambda seen: 1 / (seen + 1), "stops with TypeError"),
        (lambda seen, importance: importance / seen, "stops with ZeroDivisionError"),
    ],
    "01-effective-classes": [
        (lambda histogram: entropy(shares(histogram)), "that was the entropy"),
        (lambda histogram: entropy(shares(histogram)) / math.log(2), "that was the entropy"),
        (lambda histogram: 2 ** entropy(shares(histogram)), "same base"),
        (lambda histogram: math.exp(-entropy(shares(histogram))), "minus sign"),
        (lambda histogram: math.exp(entropy(histogram)), "divided by its sum?"),
        (lambda histogram: sum(x > 0 for x in histogram), "a rare class weighs less"),
        (lambda histogram: len(histogram), "a class without dreams adds nothing"),
        (lambda histogram: 1 / sum(x * x for x in shares(histogram)), "sum of squares"),
        (lambda histogram: 1 / max(shares(histogram)), "as 1.755 classes, not as 1.333"),
        (lambda histogram: float("nan"), "NaN came back"),
        (lambda histogram: shares(histogram), "list came back"),
        (lambda histogram: math.exp(-sum(x * math.log(x) for x in shares(histogram))), "stops"),
    ],
    "01-feedback": [
        (lambda p, h, z, c: feedback(p, h, z, c, body=2), "counted twice"),
        (lambda p, h, z, c: feedback(p, h, z, c, body=2, bias=1), "counted twice"),
        (lambda p, h, z, c: feedback(p, h, z, c, bias=1), "has no bias"),
        (lambda p, h, z, c: feedback(p, h, z, c, head=0), "head of the classifier is missing"),
        (lambda p, h, z, c: feedback(p, h, z, c, decoder=0), "decoder is missing"),
        (lambda p, h, z, c: feedback(p, h, z, c, logvar=0), "mean *and* a log-variance"),
        (lambda p, h, z, c: feedback(p, h, z, c, body=0), "body is missing"),
        (
            lambda p, h, z, c: feedback(p, h, z, c, head=0) + layer(z, c),
            "reads the last hidden layer",
        ),
        (
            lambda p, h, z, c: 2 * feedback(p, h, z, c) - layer(h, c),
            "not of its frozen copy",
        ),
        (lambda p, h, z, c: 2 * p * h + 2 * h * h + 3 * h * z + h * c, "biases are missing"),
        (lambda p, h, z, c: feedback(p, h, z, c) - 2 * layer(h, h), "two hidden layers each"),
        (lambda p, h, z, c: 7, "there are 196 numbers, not 7"),
        (lambda p, h, z, c: 196, "not for the sizes"),
        (lambda p, h, z, c: None, "NoneType came back"),
    ],
}


@pytest.mark.parametrize("exercise", [name for name in EXERCISES if name not in OF_NOTEBOOK_11])
def test_right_answers_pass(exercise):
    for answer in RIGHT[exercise]:
        assert repr(check(exercise, answer)) == "Correct." and check(exercise, answer)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_a_stub_is_not_written_yet(exercise):
    def stub(*arguments):
        raise NotImplementedError("the hint of the notebook")

    verdict = check(exercise, stub)
    assert not verdict and "Not written yet" in verdict.message


@pytest.mark.parametrize(
    "exercise, answer, words",
    [(exercise, *case) for exercise, cases in WRONG.items() for case in cases],
)
def test_a_mistake_is_named(exercise, answer, words):
    verdict = check(exercise, answer)
    assert isinstance(verdict, Verdict) and not verdict and not verdict.correct
    assert words in verdict.message and verdict.message == repr(verdict)
    assert "\n" not in verdict.message and "?." not in verdict.message


def test_nan_where_a_class_is_empty():
    def no_care(histogram):
        with np.errstate(all="ignore"):
            p = np.array(histogram) / np.sum(histogram)
            return np.exp(-(p * np.log(p)).sum())

    verdict = check("01-effective-classes", no_care)
    assert not verdict and "logarithm of 0" in verdict.message


def test_unknown_exercise():
    with pytest.raises(UserError, match="unknown exercise '01-x'.*01-importance"):
        check("01-x", print)


def test_hint_is_not_swallowed_as_a_students_error():
    assert not issubclass(Hint, NotImplementedError)
