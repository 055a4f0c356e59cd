"""The exercises of notebook 11."""

from cltutor.check.hints import Hint, expect, number

# name: (bytes, accuracy). b costs as much as a and is worse; c and d are equal in both; e is dear
# and no better than f.
TABLE = {
    "a": (10, 0.5),
    "b": (10, 0.4),
    "c": (20, 0.7),
    "d": (20, 0.7),
    "e": (50, 0.8),
    "f": (40, 0.8),
}


def _names(value) -> list[str]:
    """The names that came back, sorted; a hint if it is no collection of names."""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise Hint(f"Return a list of names; {type(value).__name__} came back.")
    return sorted(str(one) for one in value)


def _front(function) -> None:
    expect(_names(function({"x": (3, 0.1)})) == ["x"], "A single method is beaten by nobody.")
    found = _names(function({"x": (3, 0.1), "y": (1, 0.1)}))
    expect("y" in found, "At equal accuracy the cheaper one stays.")
    expect(
        found == ["y"],
        "At equal accuracy the dearer one is beaten: no worse in both, and better in one.",
    )
    found = _names(function(dict(TABLE)))
    expect("b" not in found, "At equal cost the less accurate one is beaten.")
    expect("a" in found, "The cheapest method is never beaten by a dearer one, however good.")
    expect(
        {"c", "d"} <= set(found),
        "Two methods with the same cost and accuracy do not beat each other: both stay.",
    )
    expect(
        found == ["a", "c", "d", "f"],
        f"Of these six a, c, d and f are on the front: {TABLE}; {', '.join(found)} came back.",
    )


def _choose(function) -> None:
    expect(
        function(dict(TABLE), 5) is None,
        "Where nothing fits, return None: a choice that breaks the budget is none.",
    )
    value = function({"x": (5, 0.3), "y": (9, 0.9)}, 5)
    expect(value is not None, "A method that takes the whole budget fits.")
    expect(value != "y", "y has 9 bytes, and 5 were allowed.")
    expect(value == "x", f"With x = (5, 0.3) and 5 bytes, x is to be chosen; {value} came back.")
    value = function(dict(TABLE), 1000)
    expect(value not in ("a", "b"), "Not the cheapest that fits: the most accurate.")
    expect(value != "e", "e and f are equally accurate: take the one that needs fewer bytes.")
    expect(value == "f", f"With 1,000 bytes f is to be chosen; {value} came back.")
    expect(
        function({"y": (2, 0.6), "x": (1, 0.6)}, 3) == "x"
        and function({"x": (1, 0.6), "y": (2, 0.6)}, 3) == "x",
        "Of two equally accurate ones the smaller, in whichever order they stand.",
    )


def _images(function) -> None:
    # 64 pixels of 4 bits and a label of 4 bits: 260 bits; 10,000 bytes are 80,000 bits.
    value = number(function(10_000, 64, 4, 10))
    expect(value != 312, "Is the label there? Ten classes need 4 bits more for each image.")
    expect(value != 38, "The budget is in bytes, pixels and labels are in bits.")
    expect(value != 303, "Images lie bit to bit: 260 bits are not rounded up to whole bytes.")
    expect(value != 308, "A label has a whole number of bits: 3 are too few for ten classes, so 4.")
    expect(value in (307, 308) or not 307 < value < 308, "Images cannot be cut: round down.")
    expect(value == 307, f"10,000 bytes hold 307 images of 64 pixels in 4 bits, not {value:g}.")
    value = number(function(100, 10, 1, 16))
    expect(value == 57, f"Sixteen classes need 4 bits: 57 images of 10 + 4 bits, not {value:g}.")
    value = number(function(100, 10, 1, 17))
    expect(value == 53, f"Seventeen classes need 5 bits: 53 images, not {value:g}.")
    expect(number(function(10, 64, 8, 10)) == 0, "What does not fit once is there 0 times.")


EXERCISES = {"11-front": _front, "11-choose": _choose, "11-images": _images}
