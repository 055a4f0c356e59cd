"""The exercises of notebook 02."""

import math

import torch

from cltutor.check.hints import close, expect, number


def _line(*places: float, pixels: int = 1) -> torch.Tensor:
    """Images of equal pixels whose distances are those of `places` on a line: (n, 1, 1, pixels)."""
    return torch.tensor(places).view(-1, 1, 1, 1).expand(-1, 1, 1, pixels) / math.sqrt(pixels)


def _balanced_align(function) -> None:
    # Squared distances 1, 1, 1 of class 0 and 9 of class 5: class means 1 and 9, so 5.
    u, u_ = _line(1.0, 2.0, 3.0, 7.0, pixels=2), _line(2.0, 3.0, 4.0, 4.0, pixels=2)
    c = torch.tensor([0, 0, 0, 5])
    value = number(function(u, u_, c))
    expect(
        not close(value, 3), "That is the mean over images: a class drawn more often counts more."
    )
    expect(not close(value, 10), "Take the mean over the classes, not their sum.")
    expect(
        not close(value, 12), "Take the mean over a class's images first, and not all squares' sum."
    )
    expect(not close(value, 2), "Those are distances; asked are their squares.")
    expect(
        not close(value, 2.5),
        "Sum the squares over all pixels of an image: this is a mean over pixels, which are two.",
    )
    expect(
        not any(close(value, wrong) for wrong in (1, 10 / 6)),
        "Classes that were not drawn count nothing: divide by the number of classes in c.",
    )
    expect(close(value, 5), f"Class means of 1 and 9 should give 5; {value:.3f} came back.")
    expect(
        close(number(function(u[3:], u_[3:], c[3:])), 9),
        "With images of a single class this is their mean squared distance.",
    )
    u = u.clone().requires_grad_()
    loss = function(u, u_, c)
    expect(
        torch.is_tensor(loss) and loss.requires_grad,
        "Return a tensor that can be differentiated: no float() or .item() on the way.",
    )


def _coverage(function) -> None:
    # Nearest other real image: at 1, 1 and 2.
    real = _line(0.0, 1.0, 3.0)
    expect(
        not close(number(function(real, real)), 0),
        "Real images cover themselves: a radius of 0 means that an image is its own neighbour.",
    )
    value = number(function(_line(1.2, 30.0, 30.0, 30.0), real))
    expect(
        not close(value, 0.25),
        "That is the share of drawn images near a real one; asked is the share of real images.",
    )
    expect(not close(value, 2), "A share: divide by the number of real images.")
    expect(
        not close(value, 1),
        "Each real image has a radius of its own; with the largest for all, too much is covered.",
    )
    expect(
        close(value, 2 / 3), f"Two of three real images are covered here; {value:.3f} came back."
    )
    value = number(function(_line(4.9), real))
    expect(
        not close(value, 0),
        "An image at distance 1.9 from one whose radius is 2 covers it.",
    )
    expect(close(value, 1 / 3), f"One of three is covered here; {value:.3f} came back.")
    expect(
        close(number(function(_line(2.0), real)), 2 / 3), "At the very radius counts as covered."
    )


EXERCISES = {"02-balanced-align": _balanced_align, "02-coverage": _coverage}
