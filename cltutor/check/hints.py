"""What the checks of all exercises are written with: a hint, and when to give one."""

import math


class Hint(Exception):
    """What is wrong with an answer, as advice."""


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
