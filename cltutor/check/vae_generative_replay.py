"""The exercises of notebook 01."""

import math

from cltutor.check.hints import Hint, close, expect, number


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
