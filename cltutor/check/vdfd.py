"""The exercises of notebook 09."""

import torch

from cltutor.check.hints import close, expect, number


def _centred(function) -> None:
    # d = (1, 2, 6), mean 3: deviations -2, -1, 3, squares 14.
    d = torch.tensor([1.0, 2.0, 6.0])
    value = number(function(d))
    expect(not close(value, 41), "That is |d|² itself: a common shift of all logits counts there.")
    expect(not close(value, 14 / 3), "The sum of squares, as in |d|², not their mean.")
    expect(not close(value, 7), "The sum of squares, not the variance with one degree less.")
    expect(not close(value, 14**0.5), "The square of the length, not the length.")
    expect(not close(value, 32), "Take the mean off every output before it is squared.")
    expect(close(value, 14), f"For d = (1, 2, 6) this should give 14; {value:.3f} came back.")
    expect(
        close(number(function(d + 100)) + 1, 15),
        "A shift of all outputs by 100 must not change it: that is what softmax does not see.",
    )
    loss = function(d.clone().requires_grad_())
    expect(
        torch.is_tensor(loss) and loss.requires_grad,
        "Return a tensor that can be differentiated: no float() or .item() on the way.",
    )


def _kept(function) -> None:
    # A kernel (4, 2, 3, 3) with 5 classes and rank 2: 2 (4 + 1 + 5) = 20; a bias (4,): 4 * 5 = 20.
    kernel, bias = (4, 2, 3, 3), (4,)
    value = number(function([kernel], 5, 2))
    expect(not close(value, 10), "`rank` singular vectors, not one.")
    expect(not close(value, 360), "A kernel is averaged over all but its first axis before.")
    expect(not close(value, 18), "Each singular vector has a singular value: one number more.")
    expect(close(value, 20), f"For one kernel (4, 2, 3, 3) it is 20; {value:.0f} came back.")
    value = number(function([kernel, bias], 5, 2))
    expect(not close(value, 20), "The tensors with one axis are missing.")
    expect(
        not close(value, 40) or close(number(function([bias], 5, 1)), 20),
        "A tensor with one axis is kept as it is: a number for each entry and class.",
    )
    expect(not close(value, 24), "Of a bias G has a row for every *class*.")
    expect(close(value, 40), f"With a bias (4,) beside it, it is 40; {value:.0f} came back.")
    expect(
        close(number(function([(1, 8), (8, 3)], 2, 1)), 15),
        "A matrix is a kernel without places: averaged over its inputs, compressed.",
    )


EXERCISES = {"09-centred": _centred, "09-kept": _kept}
