"""The exercises of notebook 08."""

import numpy as np

from cltutor.check.hints import Hint, close, expect, number
from cltutor.errors import UserError
from cltutor.probe import relative_forgetting

R0 = np.array([0.5, 0.5, 0.5, 0.5])
R = np.array(
    [[0.8, 0.5, 0.95, 0.5], [0.9, 0.7, 0.6, 0.5], [0.6, 0.8, 0.9, 0.5], [0.7, 0.6, 0.6, 1.0]]
)


def _best(function) -> None:
    # By hand: best 0.9, 0.8, 0.9; lost 0.2 + 0.2 + 0.3 = 0.7, gained 0.4 + 0.3 + 0.3 = 1.
    value = number(function(R.copy(), R0.copy()))
    for mistake, hint in (
        (0.625, "That is FOR at the end: in place of R[i, i] take the best from row i on."),
        (0.875, "The best stands in the numerator alone; it belongs into the denominator, too."),
        (0.5, "The best stands in the denominator alone; it belongs into the numerator, too."),
        (0.7 / 1.5, "The last experience has no later moment: leave it out of both sums."),
        (0.75 / 1.05, "The best runs over rows from i on; before that, i was not trained on."),
        (0.7 / 1.1, "Before experience i means row i - 1; R0 is that of the first alone."),
        (13 / 18, "That is the mean of the single ratios; asked is a ratio of two sums."),
    ):
        expect(not close(value, mistake), hint)
    expect(
        close(value, 0.7),
        f"With best values 0.9, 0.8, 0.9 of four experiences, 0.5, 0.5, 0.6 before and 0.7, 0.6, "
        f"0.6 at the end it is 0.7 / 1.0; {value:g} came back.",
    )
    value = number(function(np.array([[0.6, 0.5], [0.8, 0.9]]), np.array([0.5, 0.5])))
    expect(
        not close(value, 0.0),
        "The last row is what the best is compared with: leave it out of the best. Then an "
        "experience that improved to the end gives a value below 0.",
    )
    expect(close(value, -2.0), f"From 0.5 to 0.6 and at the end 0.8 it is -2; {value:g} came back.")


def _below_zero(function) -> None:
    found = function()
    expect(
        isinstance(found, tuple | list) and len(found) == 2,
        "Return two things: the matrix R and the accuracies R0 of the untrained network.",
    )
    M, M0 = (np.asarray(one, dtype=float) for one in found)
    expect(M.shape == (3, 3), f"R is a matrix of three experiences, (3, 3); yours is {M.shape}.")
    expect(M0.shape == (3,), f"R0 has one accuracy per experience, (3,); yours is {M0.shape}.")
    expect(
        all(np.all((one >= 0) & (one <= 1)) for one in (M, M0)), "Accuracies lie between 0 and 1."
    )
    gained = M.diagonal() - np.array([M0[0], M[0, 1], M[1, 2]])
    expect(
        bool(np.all(gained >= 0.1 - 1e-9)),
        "Every experience has to gain at least 0.1 while it is trained on: R[i, i] against the row "
        f"before it. Yours gain {', '.join(f'{gain:.2f}' for gain in gained)}.",
    )
    expect(M[-1].max() <= 0.8 + 1e-9, "The last row must not pass 0.8.")
    try:
        ratio = relative_forgetting(M, M0).ratio
    except UserError as error:
        raise Hint(str(error)) from None
    expect(
        ratio <= -0.5 + 1e-9,
        f"Its FOR at the end is {ratio:.2f}: let the first two experiences gain more later on.",
    )


def _few(function) -> None:
    y = np.array([3, 7, 3, 3, 7, 3, 9, 7, 3, 3, 3, 7])
    picks = [np.asarray(function(y, 2, np.random.default_rng(seed))) for seed in range(20)]
    first = picks[0]
    expect(
        first.ndim == 1 and first.dtype.kind in "iu",
        "Return indices into y, whole numbers in one array; no mask, and no labels.",
    )
    for pick in picks:
        expect(len(set(pick.tolist())) == len(pick), "An image was drawn twice.")
        expect(
            bool(np.all((pick >= 0) & (pick < len(y)))), "An index lies outside y: is it a label?"
        )
    counts = [[int((y[pick] == c).sum()) for c in (3, 7, 9)] for pick in picks]
    expect(
        all(count == [2, 2, 1] for count in counts),
        "Of y = 3 7 3 3 7 3 9 7 3 3 3 7 and n = 2 there should be two 3s, two 7s and the only 9; "
        f"one draw had {counts[0]} of them. Are the indices those of y, and not of a class?",
    )
    sets = {tuple(sorted(pick.tolist())) for pick in picks}
    expect(len(sets) > 5, "Other generators should give other images: draw them at random.")
    again = np.asarray(function(y, 2, np.random.default_rng(0)))
    expect(np.array_equal(first, again), "Draw from `rng` alone: the same one, the same images.")
    every = np.unique(np.concatenate(picks))
    expect(len(every) == len(y), "Some images are never drawn.")


EXERCISES = {"08-best": _best, "08-below-zero": _below_zero, "08-few": _few}
