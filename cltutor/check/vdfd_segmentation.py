"""The exercises of notebook 10."""

import torch

from cltutor.check.hints import close, expect, number


def _miou(function) -> None:
    # Class 0: 6 right, has 8, given 7: 6/9. Class 1: 1 right, has 2, given 2: 1/3. Class 2: no
    # pixel has it, but one of class 0 was called so.
    matrix = torch.tensor([[6, 1, 1], [1, 1, 0], [0, 0, 0]])
    value, right = number(function(matrix)), (6 / 9 + 1 / 3) / 2
    expect(
        not close(value, (6 / 9 + 1 / 3) / 3),
        "No pixel has class 2: it counts nowhere, not as 0. Leave it out of the mean.",
    )
    expect(not close(value, 7 / 10), "That is the share of right pixels: the mean is over classes.")
    expect(
        not close(value, (6 / 8 + 1 / 2) / 2),
        "That is right / has. Pixels wrongly given to a class count against it, too.",
    )
    expect(
        not close(value, (6 / 15 + 1 / 4) / 2),
        "Right pixels are in `has` and in `given`: count them once, or nothing is ever 1.",
    )
    expect(close(value, right), f"For {matrix.tolist()} it is {right:.4f}; {value:.4f} came back.")
    every = torch.eye(3, dtype=torch.long)
    expect(close(number(function(every)), 1), "If all is right, the mean is 1, absent or not.")


def _pseudo(function) -> None:
    # Four pixels: labelled 0 and the teacher sure of 1; 0 and not sure; new class 3; ignored.
    p = torch.tensor([[0.1, 0.8, 0.1], [0.3, 0.5, 0.2], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]])
    logits = (p.log() + 2).T.view(1, 3, 2, 2)
    y = torch.tensor([[[0, 0], [3, -100]]])
    before = y.clone()
    maps = function(y, logits, 0.7)
    expect(torch.is_tensor(maps) and maps.shape == y.shape, "Return maps of the shape of y.")
    expect(torch.equal(y, before), "Leave y as it is, and return new maps.")
    found = maps.flatten().tolist()
    expect(found[2] == 3, "A new class stays: only where y is 0 is the teacher asked.")
    expect(found[3] == -100, "-100 stays: only where y is 0 is the teacher asked.")
    expect(found[0] == 1, "The first pixel is labelled 0, and the teacher gives 1 at 0.8 > 0.7.")
    expect(
        found[1] == 0,
        "The second stays 0: its best probability is 0.5. Logits are no probabilities yet.",
    )
    sure = function(torch.zeros(1, 1, 1, dtype=torch.long), torch.zeros(1, 4, 1, 1), 0.2)
    expect(sure.item() == 0, "Where background is the teacher's own choice, it stays background.")


EXERCISES = {"10-miou": _miou, "10-pseudo": _pseudo}
