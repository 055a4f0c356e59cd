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


def _feedback(function) -> None:
    pixels, hidden, latent, n_classes = 6, 5, 3, 2
    body = (6 * 5 + 5) + (5 * 5 + 5)
    head, decoder = 5 * 2 + 2, (3 * 5 + 5) + (5 * 5 + 5) + (5 * 6 + 6)
    size = body + (5 * 3 + 3) + 5 * 3 + decoder + head
    mistakes = {
        size + body: "The body is counted twice: encoder and solver share it.",
        size + body + 3: "The body is counted twice: encoder and solver share it.",
        size + 3: "The layer for the log-variance has no bias in vae.py.",
        size - head: "The head of the classifier is missing.",
        size - decoder: "The decoder is missing: without it nothing is drawn.",
        size - 5 * 3: "An encoder gives a mean *and* a log-variance for every z.",
        size - body: "The body is missing: the layers from the image to the last hidden layer.",
        size - head + 3 * 2 + 2: "The head reads the last hidden layer, which is wider than z.",
        2 * size - head: "Count weights and biases of one network, not of its frozen copy as well.",
        size
        - (5 + 5 + 3 + 5 + 5 + 6 + 2): "The biases are missing: b of them in a layer to b units.",
        size - 2 * (5 * 5 + 5): "Encoder and decoder have two hidden layers each.",
    }
    value = number(function(pixels, hidden, latent, n_classes))
    case = f"{pixels} pixels, hidden={hidden}, latent={latent}, {n_classes} classes"
    expect(value not in mistakes, mistakes.get(value, ""))
    expect(value == size, f"With {case} there are {size} numbers, not {value:g}.")
    published = number(function(784, 400, 100, 10))
    expect(published == 1_073_694, "Right once, but not for the sizes of the paper's network.")


EXERCISES = {
    "01-importance": _importance,
    "01-effective-classes": _effective_classes,
    "01-feedback": _feedback,
}
