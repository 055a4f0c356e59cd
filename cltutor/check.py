"""Check an exercise: `check("01-importance", importance_share)` says "correct" or gives a hint.

An exercise is known by its id, NOTEBOOK-NAME. Its check knows properties and hand-worked values,
not the solution, and tries typical mistakes before it gives up on a value.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from cltutor.errors import UserError


class Hint(Exception):
    """What is wrong with an answer, as advice."""


@dataclass(frozen=True)
class Verdict:
    """What `check` found: true if the answer is right; shown as its message."""

    correct: bool
    message: str

    def __bool__(self) -> bool:
        return self.correct

    def __repr__(self) -> str:
        return self.message


def check(exercise: str, function: Callable) -> Verdict:
    """Try `function` on the cases of `exercise`.

    Raises:
        UserError: there is no exercise of that id.
    """
    if exercise not in EXERCISES:
        raise UserError(f"unknown exercise {exercise!r}: choose one of {', '.join(EXERCISES)}.")
    try:
        EXERCISES[exercise](function)
    except NotImplementedError:
        return Verdict(
            False, "Not written yet: fill in the function above and run this cell again."
        )
    except Hint as hint:
        return Verdict(False, f"Not yet. {hint}")
    except Exception as error:  # whatever a student's function may raise
        return Verdict(False, f"It stops with {type(error).__name__}: {error}")
    return Verdict(True, "Correct.")


def expect(condition: bool, hint: str) -> None:
    """Raise the hint unless the condition holds."""
    if not condition:
        raise Hint(hint)


def close(value: float, other: float) -> bool:
    """Equal up to the rounding of 32-bit floats."""
    return math.isclose(value, other, rel_tol=1e-5)


def number(value) -> float:
    """`value` as a float; a hint if it is none."""
    try:
        value = float(value)
    except (TypeError, ValueError):
        raise Hint(f"Return one number; {type(value).__name__} came back.") from None
    expect(not math.isnan(value), "NaN came back: is there a logarithm of 0, or 0 divided by 0?")
    return value


def _importance(function) -> None:
    expect(
        close(number(function(0, 2.0)), 1.0),
        "Before the first experience there is no past: with seen=0 the share is 1.",
    )
    for seen, importance, share in ((3, 1.0, 0.25), (2, 2.0, 0.5), (4, 0.5, 1 / 9), (1, 3.0, 0.75)):
        value = number(function(seen, importance))
        if close(value, share):
            continue
        case = f"seen={seen}, importance={importance:g}"
        expect(
            not close(value, 1 - share),
            f"At {case} this is the share of the past; asked is that of the current experience.",
        )
        expect(
            not close(value, 1 / (seen + 1)),
            f"At {case} this is 1/(seen + 1): `importance` has no influence yet.",
        )
        expect(
            not close(value, importance / (seen + 1)),
            f"At {case} the shares do not add up to 1: what does the past get?",
        )
        expect(
            not close(value, importance / (importance + seen - 1)),
            "`seen` counts the past experiences alone; the current one is not among them.",
        )
        raise Hint(f"At {case} the share should be {share:.3f}; {value:.3f} came back.")


def _effective_classes(function) -> None:
    even = number(function([5, 5, 5, 5]))
    expect(
        not close(even, math.log(4)) and not close(even, 2.0),
        "Four equally frequent classes count as 4: that was the entropy; take its exponential.",
    )
    expect(
        not close(even, 2 ** math.log(4)),
        "Logarithm and exponential must have the same base.",
    )
    expect(
        not close(even, 0.25),
        "Four equally frequent classes count as 4, not as 1/4: the entropy has a minus sign.",
    )
    expect(
        close(even, 4.0),
        f"Four equally frequent classes count as 4, not as {even:.3f}: "
        "is the histogram divided by its sum?",
    )
    expect(
        close(number(function([7, 0, 0])), 1.0),
        "If all dreams show one class, one class counts; a class without dreams adds nothing.",
    )
    value = number(function([3, 1]))
    expect(
        not close(value, 2.0),
        "Three dreams of one class and one of another count as less than 2: a rare class weighs "
        "less than a frequent one.",
    )
    expect(
        not close(value, 1.6),
        "That is 1 over the sum of squares, another count of classes; asked is the exponential "
        "of the entropy.",
    )
    expect(
        close(value, 4 / 27**0.25),
        f"Three dreams of one class and one of another count as 1.755 classes, not as {value:.3f}.",
    )


EXERCISES = {"01-importance": _importance, "01-effective-classes": _effective_classes}
