"""The graded exercise of notebook 09: another form of the data-free penalty."""

import numpy as np
import torch

from cltutor.course.variant import Variant


def variant(rng):
    """The variant that `rng` draws."""
    centred, halved, mean = (rng.random() < 0.5 for _ in range(3))
    eps = rng.choice([0.02, 0.05, 0.1, 0.2, 0.3])
    drift, undone = ("d - d.mean()", "d - 0") if centred else ("d - 0", "d - d.mean()")
    factor, other = ("0.5", "1.0") if halved else ("1.0", "0.5")
    by, whole = ("len(d)", "1") if mean else ("1", "len(d)")
    return Variant(
        id="09-graded",
        points=4,
        function="keep",
        text=(
            "Write `keep(G, w, w_, P)`: `G` (C, n) is the mean Jacobian of an old network's C "
            "outputs, `w` and `w_` (n,) are the weights now and then, `P` (C, h) are rows of any "
            "length. $d = G(w - w')$ is how far the outputs moved"
            + (", less its mean over the outputs" if centred else "")
            + f". With the rows of `P` scaled to length 1, $M = PP^T + {eps}\\,I$ is the inverse "
            "covariance. Return $"
            + ("\\frac{1}{2}" if halved else "")
            + "(d^T M d - \\log|M|)$"
            + (", divided by C." if mean else ".")
        ),
        stub=(
            "def keep(G, w, w_, P):\n"
            '    raise NotImplementedError("d, then M, then the two terms")\n'
        ),
        solution=(
            "def keep(G, w, w_, P):\n"
            "    d = G @ (w - w_)\n"
            f"    d = {drift}\n"
            "    P = P / P.norm(dim=1, keepdim=True)\n"
            f"    M = P @ P.T + {eps} * torch.eye(len(d), dtype=d.dtype)\n"
            "    loss = d @ M @ d - torch.logdet(M)\n"
            f"    return {factor} * loss / {by}\n"
        ),
        mistakes=(
            (f"d = {drift}", f"d = {undone}", "Is the mean over the outputs taken off?"),
            (
                "P / P.norm(dim=1, keepdim=True)",
                "P",
                "Rows of length 1: else the loss falls without end as P grows.",
            ),
            ("dim=1, keepdim=True", "dim=0", "The rows have length 1, not the columns."),
            (f"+ {eps} * torch.eye", "+ 0.001 * torch.eye", "What is added on the diagonal of M?"),
            ("- torch.logdet(M)", "+ torch.logdet(M)", "log |Sigma| is minus log |M|."),
            ("- torch.logdet(M)", "", "The determinant is missing: P would give every output up."),
            (
                "d @ M @ d",
                "d @ torch.linalg.solve(M, d)",
                "M is the *inverse* of the covariance: it is not inverted again.",
            ),
            (f"{factor} * loss", f"{other} * loss", "With or without the half?"),
            (f"/ {by}", f"/ {whole}", "Divided by the number of outputs, or not?"),
        ),
        cases=cases,
    )


def cases(rng: np.random.Generator) -> dict[str, list[tuple]]:
    """Outputs that moved; a network that did not; few columns, so that P P' has no full rank."""

    def one(C: int, h: int, far: float) -> tuple:
        G, P = rng.normal(size=(C, 6)), rng.uniform(0.5, 3, (C, 1)) * rng.normal(size=(C, h))
        w = rng.normal(size=6)
        return tuple(torch.tensor(part) for part in (G, w + far * rng.normal(size=6), w, P))

    return {
        "outputs that moved": [one(int(rng.integers(3, 6)), 5, 0.5) for _ in range(4)],
        "nothing moved": [one(4, 5, 0.0)],
        "more outputs than columns": [one(5, 2, 0.5)],
    }
