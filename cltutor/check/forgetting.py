"""The exercises of notebook 00."""

import numpy as np
import torch

from cltutor.check.hints import Hint, close, expect, number

# Two past experiences, three weights. By hand: (1*1 + 5*0 + 3*1) + (2*1 + 1*4 + 7*0) = 4 + 6 = 10.
THETA = torch.tensor([1.0, 2.0, 0.0])
ANCHORS = torch.tensor([[0.0, 2.0, 1.0], [2.0, 0.0, 0.0]])
IMPORTANCES = torch.tensor([[1.0, 5.0, 3.0], [2.0, 1.0, 7.0]])

# Five moments, three experiences, learned at moments 0, 2 and 4.
HISTORY = (
    (0.9, 0.1, 0.0),
    (0.4, 0.3, 0.0),
    (0.8, 0.45, 0.1),
    (0.9, 0.5, 0.2),
    (0.85, 0.75, 0.95),
)
LEARNED = (0, 2, 4)


def _springs(function) -> None:
    one = number(function(THETA, ANCHORS[:1], IMPORTANCES[:1], 1.0))
    expect(
        not close(one, 4.0),
        "With one anchor that is twice Eq. 2: the factor 1/2 is missing.",
    )
    expect(
        close(one, 2.0),
        f"With a single anchor it is Eq. 2, here lam/2 (1·1² + 5·0² + 3·1²) = 2; {one:g} came "
        "back.",
    )
    value = number(function(THETA, ANCHORS, IMPORTANCES, 10.0))
    for mistake, hint in (
        (135, "That is the kit's form: all stiffness at the latest anchor. Asked is a spring to "
              "every anchor, each with its own stiffness."),
        (30, "Only the latest anchor pulls; the older experiences have springs as well."),
        (20, "Only the first anchor pulls; the later experiences have springs as well."),
        (25, "That is the mean over the experiences; the pulls of all of them add up."),
        (5, "`lam` has no influence yet."),
    ):  # fmt: skip
        expect(not close(value, mistake), hint)
    expect(
        close(value, 50.0),
        "With the anchors (0, 2, 1) and (2, 0, 0), stiffness (1, 5, 3) and (2, 1, 7), theta = "
        f"(1, 2, 0) and lam = 10 it is 50; {value:g} came back.",
    )


def _worst_accuracy(function) -> None:
    two = ((1.0, 0.0), (0.2, 1.0))
    expect(
        close(number(function(np.array(two), [0, 1])), 0.2),
        "With R = [[1, 0], [0.2, 1]] the worst that happens to experience 0 after it was learned "
        "is 0.2; experience 1 has no later moment and does not count.",
    )
    value = number(function(np.array(HISTORY), list(LEARNED)))
    for mistake, hint in (
        (0.425, "The moment at which an experience was learned is not later than itself: begin "
                "one row below it."),
        (0.25, "The minimum runs over all moments; those before the experience was learned do "
               "not count."),
        (0.8, "That is the accuracy at the end. Asked is the worst moment on the way there."),
        (0.775, "Only the moments in `learned` were looked at; the dip is between them."),
        (0.825, "That is the best later moment; asked is the worst."),
        (0.3, "The sum is divided by the number of all experiences; the last one has no later "
              "moment and does not count."),
        (0.225, "That is how far the accuracy falls; asked is how low it gets."),
        (0.4, "That is the worst of all experiences; asked is the mean over them."),
    ):  # fmt: skip
        expect(not close(value, mistake), hint)
    if not close(value, 0.45):
        raise Hint(
            "Of five moments with accuracies 0.9, 0.4, 0.8, 0.9, 0.85 on experience 0 (learned at "
            "moment 0) and 0.1, 0.3, 0.45, 0.5, 0.75 on experience 1 (learned at moment 2) the "
            f"worst later ones are 0.4 and 0.5, their mean 0.45; {value:g} came back."
        )


EXERCISES = {"00-springs": _springs, "00-worst-accuracy": _worst_accuracy}
