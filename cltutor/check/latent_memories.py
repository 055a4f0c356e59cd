"""The exercises of notebook 04."""

import math

import torch

from cltutor.check.hints import close, expect, number


def _by_memory(function) -> None:
    # Along one axis: class 0 at 0, narrow; class 1 at 4, wide; class 2 far off, in the other one.
    mean = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 50.0]])
    std = torch.tensor([[0.5, 1.0], [3.0, 1.0], [1.0, 1.0]])
    z = torch.tensor([[0.1, 0.0], [4.0, 0.2], [1.9, 0.0], [-1.9, 0.0], [0.0, 49.0]])
    found = function(z, mean, std)
    expect(
        torch.is_tensor(found) and found.shape == (5,) and not found.is_floating_point(),
        "Return one class for each z: an integer tensor of shape (B,).",
    )
    expect(
        found.tolist()[:2] + found.tolist()[4:] == [0, 1, 2],
        "A code at the mean of a class is of that class: take the largest density, and argmax over "
        "classes.",
    )
    expect(
        found.tolist()[2:4] != [0, 0],
        "That is the nearest mean. Divide by the standard deviations: 1.9 is 3.8 of them away from "
        "class 0 and 0.7 from class 1.",
    )
    expect(found[3] == 1, "-1.9 is 3.8 standard deviations off class 0, and 2.0 off class 1.")
    wide = function(torch.tensor([[0.6, 0.0]]), mean, std)
    expect(
        wide.tolist() == [0],
        "A wide class is thinner everywhere: subtract the sum of log std, not only the distances.",
    )
    around = torch.zeros(2, 2), torch.tensor([[1.0, 1.0], [2.0, 2.0]])  # one inside the other
    scaled = function(torch.tensor([[2.2, 0.0]]), *around)
    # -2.42 against -0.605 - 2 log 2 = -1.99; with half of the logarithms, or variances, other ones.
    expect(scaled.tolist() == [1], "log std once per dimension: its sum over dimensions.")
    tight = function(torch.tensor([[1.8, 0.0]]), *around)
    expect(
        tight.tolist() == [0],
        "The exponent has a factor 1/2: half the squared distance, in standard deviations, against "
        "the sum of log std.",
    )


def _room(function) -> None:
    # Inputs (1, 0), (0, 0): with the 1 appended M has eigenvalues (3 +- sqrt 5)/4 and 0.
    A = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    value = number(function(A, 1e-9))
    expect(not close(value, 0.5), "Append a 1 for the bias: the layer has three inputs here.")
    expect(
        not 0.6 < value < 0.7,
        "That is the share of directions that are taken. Two of three are: a third is free.",
    )
    expect(not 0.99 < value < 1.01, "Divide by the number of inputs, the 1 included.")
    expect(
        abs(value - 1 / 3) < 1e-6,
        f"Two images take two of three directions, so 1/3 is free as eps -> 0; {value:.3f} came "
        "back.",
    )
    eigenvalues = [(3 + math.sqrt(5)) / 4, (3 - math.sqrt(5)) / 4, 0.0]
    soft = number(function(A, 0.2))
    unscaled = sum(0.2 / (2 * e + 0.2) for e in eigenvalues) / 3
    expect(not close(soft, unscaled), "M is a mean over images: divide A^T A by n.")
    rooted = sum(0.2 / (math.sqrt(e) + 0.2) for e in eigenvalues) / 3
    expect(not close(soft, rooted), "Eigenvalues of M are squares of singular values of A, by n.")
    expect(
        abs(soft - sum(0.2 / (e + 0.2) for e in eigenvalues) / 3) < 1e-5,
        f"Each direction counts eps / (eps + eigenvalue): this should give 0.548; {soft:.3f} came "
        "back.",
    )


EXERCISES = {"04-by-memory": _by_memory, "04-room": _room}
