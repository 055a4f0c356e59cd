"""The exercises of notebook 06."""

import torch

from cltutor.check.hints import close, expect, number


def _x0_loss(function) -> None:
    # Squared differences 1 and 4; weights (1 - ab) / ab of 1 and 3: (1 + 12) / 2.
    eps = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    ab_t = torch.tensor([0.5, 0.25])
    value = number(function(eps, torch.zeros(2, 1, 2, 2), ab_t))
    expect(
        not close(value, 2.5), "That is Eq. 3 itself: weigh each image by what its t makes of it."
    )
    expect(
        not close(value, (1 + 4 / 3) / 2),
        "Upside down: the guess of the image divides by √ab_t, so more noise weighs more.",
    )
    expect(
        not close(value, (1 + 4 * 3**0.5) / 2),
        "The factor √(1 - a)/√a is inside the square: square it, too.",
    )
    expect(not close(value, (0.5 + 4 * 0.75) / 2), "Divide by √ab_t as well, inside the square.")
    expect(not close(value, (2 + 4 * 4) / 2), "The noise has a factor √(1 - ab_t) of its own.")
    expect(not close(value, 26), "The mean over pixels, not their sum.")
    expect(not close(value, 13), "The mean over images, not their sum.")
    expect(close(value, 6.5), f"This should give 6.5; {value:.3f} came back.")
    loss = function(eps.clone().requires_grad_(), torch.zeros(2, 1, 2, 2), ab_t)
    expect(
        torch.is_tensor(loss) and loss.requires_grad,
        "Return a tensor that can be differentiated: no float() or .item() on the way.",
    )


def _pool_steps(function) -> None:
    value = number(function(300, 64, 2, 384))
    expect(not close(value, 50), "Fresh dreams take S passes each: multiply by S.")
    expect(not close(value, 200), "Once by S, not twice.")
    expect(close(value, 100), f"38,400 passes for 384 images are 100 each; {value:.3f} came back.")
    value = number(function(10, 8, 2, 60))
    expect(not close(value, 160 / 60), "Whole steps: round down.")
    expect(not close(value, 3), "Round down: rounded up, the pool costs more than fresh dreams.")
    expect(close(value, 2), f"160 passes for 60 images are 2 each; {value:.3f} came back.")
    expect(not close(number(function(10, 8, 1, 100)), 0), "An image needs one step at least.")
    expect(number(function(300, 64, 2, 2)) <= 1000, "A sampler has at most 1,000 steps.")
    expect(
        close(number(function(10, 8, 1, 100)), 1) and close(number(function(300, 64, 2, 2)), 1000),
        "Keep the number between 1 and 1,000.",
    )


EXERCISES = {"06-x0-loss": _x0_loss, "06-pool-steps": _pool_steps}
