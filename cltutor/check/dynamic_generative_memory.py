"""The exercises of notebook 03."""

import torch

from cltutor.check.hints import Hint, close, expect, number

# Three experiences, six units: new units 3, 1, 2; reused 0, 2 and 3.
MASKS = torch.tensor([[1, 1, 0, 0, 0, 1], [1, 0, 1, 0, 0, 1], [1, 1, 1, 1, 1, 0]]).bool()
REUSE = [0.0, 2 / 3, 3 / 5]


def _numbers(values, n: int) -> list[float]:
    """`values` as n numbers; a hint if they are not."""
    try:
        values = [number(value) for value in values]
    except TypeError:
        raise Hint(f"Return {n} numbers; {type(values).__name__} came back.") from None
    expect(len(values) == n, f"Return {n} numbers; {len(values)} came back.")
    return values


def _reuse(function) -> None:
    seen = _numbers(function(MASKS.clone()), 3)
    mistakes = (
        (
            [1.0, 1.0, 1.0],
            "A mask is not part of its own past: compare it with the rows before it.",
        ),
        ([0.0, 2 / 3, 2 / 5], "The past is all rows before, not only the last of them."),
        ([0.0, 2 / 3, 3 / 4], "Divide by the size of the mask, not by that of the past."),
        ([0.0, 2 / 6, 3 / 6], "Divide by the units that the mask has, not by all units."),
        ([1.0, 1 / 3, 2 / 5], "That is the share of new units; asked is that of reused ones."),
        ([0.0, 2.0, 3.0], "These are numbers of units; divide by the size of the mask."),
    )
    for wrong, hint in mistakes:
        expect(not all(map(close, seen, wrong)), hint)
    expect(close(seen[0], 0.0), "The first mask has no past: nothing in it can be reused.")
    shown = ", ".join(f"{share:.3f}" for share in seen)
    expect(
        all(map(close, seen, REUSE)),
        f"For the masks 110001, 101001 and 111110 the shares are 0, 2/3 and 3/5, not {shown}.",
    )
    (empty,) = _numbers(function(torch.zeros(1, 4).bool()), 1)
    expect(close(empty, 0.0), "A mask without units reuses none: its share is 0.")


def _capacity(function) -> None:
    for width, share, k, grow, units, free in (
        (32, 0.5, 0, False, 32, 32),
        (32, 0.5, 3, False, 32, 4),
        (32, 0.25, 2, False, 32, 18),
        (32, 0.5, 3, True, 80, 32),
        (20, 0.1, 10, True, 40, 20),
    ):
        got = _numbers(function(width, share, k, grow), 2)
        if close(got[0], units) and close(got[1], free):
            continue
        case = f"width={width}, share={share:g}, k={k}, grow={grow}"
        expect(
            not (close(got[0], free) and close(got[1], units)),
            f"At {case} the two came back in the other order: units first, then free ones.",
        )
        expect(
            grow or k == 0 or not close(got[1], width * max(0.0, 1 - k * share)),
            f"At {case}: a mask takes a share of what is still free, not of all units.",
        )
        expect(
            grow or k == 0 or share == 0.5 or not close(got[1], width * share**k),
            f"At {case}: what a mask leaves is 1 - share of the free units.",
        )
        expect(
            not grow or not close(got[0], width),
            f"At {case} the layer grows by what each mask takes.",
        )
        expect(
            not grow or not close(got[0], width * (1 + share) ** k),
            f"At {case}: growth restores what is free to `width`, so each mask takes the same "
            "number; the layer does not grow by a factor.",
        )
        raise Hint(
            f"At {case} there should be {units} units, {free} of them free; "
            f"{got[0]:g} and {got[1]:g} came back."
        )


EXERCISES = {"03-reuse": _reuse, "03-capacity": _capacity}
