"""The exercises of notebook 11: right answers pass, and typical mistakes get their hints."""

import math

import pytest

from cltutor.check import check


def front(methods):
    return [
        name
        for name, (cost, gain) in methods.items()
        if not any(
            other_cost <= cost and other_gain >= gain and (other_cost, other_gain) != (cost, gain)
            for other_cost, other_gain in methods.values()
        )
    ]


def sweep(methods):
    """Another right way: from cheap to dear, those that are better than all before."""
    found, best = [], -1.0
    for name, (cost, gain) in sorted(methods.items(), key=lambda one: (one[1][0], -one[1][1])):
        if gain > best or any(methods[other] == (cost, gain) for other in found):
            found.append(name)
            best = gain
    return set(found)


def choose(methods, budget):
    fits = {name: point for name, point in methods.items() if point[0] <= budget}
    return max(fits, key=lambda name: (fits[name][1], -fits[name][0]), default=None)


def images(budget, pixels, bits, n_classes):
    return 8 * budget // (pixels * bits + math.ceil(math.log2(n_classes)))


def each(rule):
    """A front by a rule of (cost, gain) and that of another."""

    def function(methods):
        points = methods.items()
        return [a for a, p in points if not any(rule(*p, *q) for b, q in points if a != b)]

    return function


RIGHT = {
    "11-front": [front, sweep],
    "11-choose": [choose],
    "11-images": [images, lambda b, p, d, n: (b * 8) // (p * d + (n - 1).bit_length())],
}


@pytest.mark.parametrize("exercise", RIGHT)
def test_right_answers(exercise):
    for right in RIGHT[exercise]:
        assert check(exercise, right), check(exercise, right)


def cheapest(methods, budget):
    return min((n for n in methods if methods[n][0] <= budget), key=methods.get, default=None)


def best(methods, budget):
    fits = [name for name in methods if methods[name][0] <= budget]
    return max(fits, key=lambda name: methods[name][1], default=None)


MISTAKES = [
    ("11-front", lambda m: [], "beaten by nobody"),
    ("11-front", lambda m: 3, "Return a list of names"),
    ("11-front", lambda m: "x", "Return a list of names; str"),
    ("11-front", list, "dearer one is beaten"),
    ("11-front", each(lambda c, g, d, h: d <= c and h >= g), "both stay"),
    ("11-front", each(lambda c, g, d, h: d < c and h > g), "dearer one is beaten"),
    ("11-front", each(lambda c, g, d, h: d < c and h >= g), "less accurate one is beaten"),
    ("11-front", each(lambda c, g, d, h: d <= c and h > g), "dearer one is beaten"),
    ("11-front", each(lambda c, g, d, h: h > g or (h == g and d < c)), "never beaten"),
    ("11-choose", lambda m, b: max(m, key=lambda n: m[n][1]), "Where nothing fits"),
    ("11-choose", lambda m, b: choose(m, b - 1), "whole budget fits"),
    ("11-choose", cheapest, "Not the cheapest"),
    ("11-choose", best, "e and f are equally accurate"),
    ("11-choose", lambda m, b: None, "whole budget fits"),
    ("11-images", lambda b, p, d, n: 8 * b // (p * d), "Is the label there"),
    ("11-images", lambda b, p, d, n: images(b / 8, p, d, n), "in bytes, pixels"),
    (
        "11-images",
        lambda b, p, d, n: b // math.ceil((p * d + math.ceil(math.log2(n))) / 8),
        "bit to bit",
    ),
    ("11-images", lambda b, p, d, n: 8 * b // (p * d + math.log2(n)), "whole number of bits"),
    ("11-images", lambda b, p, d, n: 8 * b / (p * d + 4), "round down"),
    ("11-images", lambda b, p, d, n: 8 * b // (p * d + 4), "Seventeen classes"),
    ("11-images", lambda b, p, d, n: 8 * b // (p * d + n.bit_length()), "Sixteen classes"),
    ("11-images", lambda b, p, d, n: max(1, images(b, p, d, n)), "0 times"),
]
WRONG = {name: [case[1:] for case in MISTAKES if case[0] == name] for name in RIGHT}


@pytest.mark.parametrize(("exercise", "wrong", "hint"), MISTAKES)
def test_typical_mistakes(exercise, wrong, hint):
    verdict = check(exercise, wrong)
    assert not verdict and hint in verdict.message, verdict
