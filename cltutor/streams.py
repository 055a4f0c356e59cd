"""The streams of the kit: a data set dealt out by class, or with its pixels permuted."""

from dataclasses import replace
from typing import get_args

import torch

from cltutor import data, segmentation
from cltutor.errors import UserError
from cltutor.seeds import split_seed
from cltutor.stream import Scenario, Stream, class_order

EXPERIENCES = 5  # of a stream whose name does not say how many


def split(
    dataset: data.Dataset,
    experiences: int = EXPERIENCES,
    *,
    scenario: Scenario = "class",
    seed: int = 0,
    split: float | None = None,
    order: list[int] | None = None,
) -> Stream:
    """Deal the classes of `dataset` out to experiences of equal size.

    In the domain scenario a label is the position of the class within its experience, so
    `n_classes` is the number of classes of one experience.

    Args:
        split: share of all samples drawn, class by class, into the test set; None keeps the data
            set's own test set.
        order: of the classes; None takes `class_order`.

    Raises:
        UserError: the classes cannot be dealt out evenly.
    """
    n_classes = len(dataset.class_names)
    if experiences < 1 or n_classes % experiences:
        raise UserError(
            f"{n_classes} classes cannot be dealt out to {experiences} experiences: take a divisor."
        )
    sets = dataset if split is None else _resplit(dataset, split, seed)
    per, parts = n_classes // experiences, []
    order = order or class_order(n_classes, seed)
    for k in range(experiences):
        classes = order[k * per : (k + 1) * per]
        part = {"classes": tuple(classes), "permutation": None}
        for end, x, y in (("", sets.x_train, sets.y_train), ("_test", sets.x_test, sets.y_test)):
            mine = torch.isin(y, torch.tensor(classes))
            part["x" + end], part["y" + end] = x[mine], y[mine]
            if scenario == "domain":
                position = torch.tensor(
                    [classes.index(c) if c in classes else 0 for c in range(n_classes)]
                )
                part["y" + end], part["classes"] = position[y[mine]], tuple(range(per))
        parts.append(part)
    shape, outputs = tuple(dataset.x_train.shape[1:]), per if scenario == "domain" else n_classes
    name = _name("split", dataset, experiences)
    return Stream(name, scenario, outputs, shape, tuple(parts), dataset.levels)


def _name(kind: str, dataset: data.Dataset, experiences: int) -> str:
    """What `load` makes the stream from again."""
    return f"{kind}-{dataset.name}" + ("" if experiences == EXPERIENCES else f"-{experiences}")


def _resplit(dataset: data.Dataset, share: float, seed: int) -> data.Dataset:
    """The data set with `share` of each class, drawn from the seed, as its test set."""
    if not 0 < share < 1:
        raise UserError(f"split={share} is no share: take a number between 0 and 1.")
    x = torch.cat([dataset.x_train, dataset.x_test])
    y = torch.cat([dataset.y_train, dataset.y_test])
    rng, test = split_seed(seed, 0, "split")["split"], torch.zeros(len(y), dtype=torch.bool)
    for c in range(len(dataset.class_names)):
        mine = (y == c).nonzero().flatten()
        drawn = torch.randperm(len(mine), generator=rng)[: round(share * len(mine))]
        test[mine[drawn]] = True
    sets = dict(x_train=x[~test], y_train=y[~test], x_test=x[test], y_test=y[test])
    return replace(dataset, **sets)


def permuted(
    dataset: data.Dataset,
    experiences: int = EXPERIENCES,
    *,
    scenario: Scenario = "domain",
    seed: int = 0,
) -> Stream:
    """All classes in every experience, pixels in an order of its own (the first: as they are).

    In the domain scenario an 8 is an 8 in every order; in the two others each experience has
    outputs of its own, as in van de Ven, Tuytelaars & Tolias 2022.

    Raises:
        UserError: fewer than one experience.
    """
    if experiences < 1:
        raise UserError("a stream has at least one experience.")
    n_classes, shape = len(dataset.class_names), tuple(dataset.x_train.shape[1:])
    apart = 0 if scenario == "domain" else n_classes
    rng = split_seed(seed, 0, "permutation")["permutation"]
    pixels = dataset.x_train[0].numel()
    parts = tuple(
        {
            "classes": tuple(range(k * apart, k * apart + n_classes)),
            "permutation": torch.randperm(pixels, generator=rng) if k else None,
            "x": dataset.x_train,
            "y": dataset.y_train + k * apart,
            "x_test": dataset.x_test,
            "y_test": dataset.y_test + k * apart,
        }
        for k in range(experiences)
    )
    name = _name("permuted", dataset, experiences)
    outputs = n_classes + apart * (experiences - 1)
    return Stream(name, scenario, outputs, shape, parts, dataset.levels)


def heads(
    dataset: data.Dataset,
    experiences: int = EXPERIENCES,
    *,
    scenario: Scenario = "task",
    seed: int = 0,
) -> Stream:
    """As `permuted`, with a head for every experience, and told at test which one it is."""
    stream = permuted(dataset, experiences, scenario=scenario, seed=seed)
    return replace(stream, name=stream.name.replace("permuted", "heads", 1))


def base(
    dataset: data.Dataset,
    experiences: int = EXPERIENCES,
    *,
    scenario: Scenario = "class",
    seed: int = 0,
) -> Stream:
    """Two classes in every experience but the first, which has all that are left.

    Raises:
        UserError: too many experiences, or a scenario in which all must be of one size.
    """
    order = class_order(len(dataset.class_names), seed)
    first = len(order) - 2 * (experiences - 1)
    if first < 2 or scenario == "domain":
        raise UserError(
            f"{len(order)} classes cannot be dealt out as a base and {experiences - 1} pairs in "
            f"the scenario {scenario}: take fewer experiences, and the scenario class or task."
        )
    single = split(dataset, len(order), scenario=scenario, seed=seed).parts
    groups = [single[:first], *(single[n : n + 2] for n in range(first, len(order), 2))]
    names = ("x", "y", "x_test", "y_test")
    parts = tuple(
        {name: torch.cat([part[name] for part in group]) for name in names}
        | {"classes": sum((part["classes"] for part in group), ()), "permutation": None}
        for group in groups
    )
    name, shape = _name("base", dataset, experiences), tuple(dataset.x_train.shape[1:])
    return Stream(name, scenario, len(order), shape, parts, dataset.levels)


def halved(
    dataset: data.Dataset,
    experiences: int = EXPERIENCES,
    *,
    scenario: Scenario = "class",
    seed: int = 0,
) -> Stream:
    """As `split`, with half of all images, drawn from the seed class by class, as the test set.

    A probe is tested on the images of one experience: on 8x8 digits that are too few otherwise.
    """
    stream = split(dataset, experiences, scenario=scenario, seed=seed, split=0.5)
    return replace(stream, name=stream.name.replace("split", "halved", 1))


def avalanche(dataset: data.Dataset, experiences: int = EXPERIENCES, **options) -> Stream:
    """As `split`, with the classes in the order that the library Avalanche draws from the seed."""
    seed = options.pop("seed", 0)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(seed)).tolist()
    stream = split(dataset, experiences, order=order, **options)
    return replace(stream, name=stream.name.replace("split", "avalanche", 1))


MAKERS = {
    "split": split,
    "base": base,
    "permuted": permuted,
    "heads": heads,
    "halved": halved,
    "avalanche": avalanche,
}
MAPS = {
    "voc": segmentation.voc,
    "disjoint": segmentation.disjoint,
    "cities": segmentation.cities,
}


def parse(name: str) -> tuple[str, str, tuple[int, ...]]:
    """(kind, data set, numbers) of a stream's name, such as ("split", "mnist", (10,)).

    Raises:
        UserError: it is not of that form.
    """
    kind, *words = name.split("-")
    numbers = []
    while len(words) > 1 and words[-1].isdecimal():
        numbers.insert(0, int(words.pop()))
    least, most = (1, 2) if kind in MAPS else (0, 1)
    if kind not in MAKERS | MAPS or len(words) != 1 or not least <= len(numbers) <= most:
        raise UserError(
            f"unknown stream {name!r}: it is KIND-DATASET, KIND one of {', '.join(MAKERS)}, "
            f"with -10 behind it for ten experiences instead of five; or {', '.join(MAPS)}, with "
            "-6-2 behind it for 6 classes or styles and then 2 at a time."
        )
    return kind, words[0], tuple(numbers or [EXPERIENCES])


def load(name: str, *, seed: int = 0, scenario: Scenario | None = None) -> Stream:
    """The stream of that name: KIND-DATASET for five experiences, or KIND-DATASET-EXPERIENCES.

    KIND is one of `MAKERS`: "split-mnist-10" deals one digit at a time, "base-mnist-3" six, two and
    two. Or it is one of `MAPS`, of data with a class for every pixel: "voc-canvas16-6-2" brings six
    classes, two and two.

    Raises:
        UserError: no such stream or data set, or its files are neither here nor to be had.
    """
    kind, dataset, numbers = parse(name)
    if scenario not in (None, *get_args(Scenario)):
        raise UserError(f"unknown scenario {scenario!r}: choose one of class, domain, task.")
    chosen = {} if scenario is None else {"scenario": scenario}
    return (MAKERS | MAPS)[kind](data.load(dataset), *numbers, seed=seed, **chosen)
