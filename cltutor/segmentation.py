"""Streams whose labels are maps of classes, and the mean IoU that is measured on them.

In `voc` and `disjoint` experiences bring classes, and whatever is not among the classes at hand is
*labelled background*, old classes included (background shift). In `cities` all classes are labelled
always, and what changes is how the images look. A pixel labelled -100 counts nowhere.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cltutor.data import Dataset
from cltutor.errors import UserError
from cltutor.stream import Scenario, Stream, Tick, class_order, require_suiting


def sizes(total: int, first: int, then: int | None, what: str) -> list[int]:
    """[first, then, then, ...] that sum to `total`; UserError if they do not."""
    rest = total - first
    if first < 1 or rest < 0 or (rest and (not then or rest % then)):
        raise UserError(
            f"{total} {what} are not {first} and then {then or 'none'} at a time: take other sizes."
        )
    return [first] + [then] * (rest // then if rest else 0)


def voc(
    dataset: Dataset,
    first: int,
    then: int | None = None,
    *,
    scenario: Scenario = "class",
    seed: int = 0,
    overlapped: bool = True,
) -> Stream:
    """`first` classes besides the background, `then` so many in each experience after it.

    An image is in every experience one of whose classes it shows ("overlapped"; Cermelli et al.
    2020), or only in that of its last class ("disjoint"). In training old and future classes are
    labelled 0, background; the test set, one for all experiences, has every label.

    Raises:
        UserError: sizes that do not add up, a data set without maps, or another scenario.
    """
    kind = "voc" if overlapped else "disjoint"
    _require(dataset, scenario == "class", f"{kind} is for the scenario class")
    order = [c + 1 for c in class_order(len(dataset.class_names) - 1, seed)]
    shown = _occurring(dataset.y_train, len(dataset.class_names))
    parts, start = [], 0
    for size in sizes(len(order), first, then, "classes"):
        mine, later = order[start : start + size], order[start + size :]
        chosen = shown[:, mine].any(1)
        if not overlapped:
            chosen &= ~shown[:, later].any(1)
        y = dataset.y_train[chosen]
        kept = torch.isin(y, torch.tensor([*mine, -100]))
        parts.append(_part((0, *mine), dataset.x_train[chosen], torch.where(kept, y, 0), dataset))
        start += size
    return _stream(kind, dataset, first, then, scenario, parts)


def disjoint(dataset: Dataset, first: int, then: int | None = None, **options) -> Stream:
    """As `voc`, every image in one experience alone."""
    return voc(dataset, first, then, overlapped=False, **options)


def cities(
    dataset: Dataset,
    first: int,
    then: int | None = None,
    *,
    scenario: Scenario = "domain",
    seed: int = 0,
) -> Stream:
    """The images of `first` styles or cities, then of `then` others in each experience.

    Raises:
        UserError: sizes that do not add up, a data set without styles, or another scenario.
    """
    known = dataset.domain_train is not None
    _require(dataset, scenario == "domain" and known, "cities is for the scenario domain and data "
             "with styles, such as styled16")  # fmt: skip
    n = int(dataset.domain_train.max()) + 1
    order, parts, start = class_order(n, seed), [], 0
    for size in sizes(n, first, then, "styles"):
        mine = torch.tensor(order[start : start + size])
        train, test = (torch.isin(one, mine) for one in (dataset.domain_train, dataset.domain_test))
        part = _part(tuple(range(len(dataset.class_names))), dataset.x_train[train],
                     dataset.y_train[train], dataset)  # fmt: skip
        part |= {"x_test": dataset.x_test[test], "y_test": dataset.y_test[test]}
        parts.append(part)
        start += size
    return _stream("cities", dataset, first, then, scenario, parts)


def _require(dataset: Dataset, suits: bool, what: str) -> None:
    if not suits or dataset.y_train.ndim != 3:
        raise UserError(
            f"{what}, and for data with a class for every pixel, such as canvas16; this is "
            f"{dataset.name}."
        )


def _occurring(y: Tensor, n_classes: int) -> Tensor:
    """Which classes the maps y (N, H, W) show, (N, n_classes) bool."""
    return torch.stack([(y == c).flatten(1).any(1) for c in range(n_classes)], 1)


def _part(classes: tuple[int, ...], x: Tensor, y: Tensor, dataset: Dataset) -> dict:
    tests = {"x_test": dataset.x_test, "y_test": dataset.y_test}
    return {"classes": classes, "permutation": None, "x": x, "y": y, **tests}


def _stream(kind, dataset, first, then, scenario, parts) -> Stream:
    name = f"{kind}-{dataset.name}-{first}" + (f"-{then}" if then else "")
    shape, n_classes = tuple(dataset.x_train.shape[1:]), len(dataset.class_names)
    return Stream(name, scenario, n_classes, shape, tuple(parts), dataset.levels, "map")


# --- mean IoU ------------------------------------------------------------------------------------


def confusion(solver, x: Tensor, y: Tensor, n_classes: int, device: str = "cpu") -> Tensor:
    """Pixels of each class (row) by what the solver calls them (column), (n, n) int64."""
    total = torch.zeros(n_classes, n_classes, dtype=torch.long)
    for images, truth in zip(x.split(200), y.split(200), strict=True):
        with torch.no_grad():
            logits = solver(images.to(device))
        require_suiting(logits, truth)
        guess = logits.argmax(1).cpu()
        counted = truth >= 0
        pairs = truth[counted] * n_classes + guess[counted]
        total += torch.bincount(pairs, minlength=n_classes**2).view(n_classes, n_classes)
    return total


def iou(matrix: Tensor) -> Tensor:
    """TP / (TP + FP + FN) of every class, (n,) float64; NaN for a class that no pixel has."""
    right, truth = matrix.diagonal().double(), matrix.sum(1)
    found = right / (truth + matrix.sum(0) - matrix.diagonal())
    return found.masked_fill(truth == 0, float("nan"))


def confusions(learner: dict, stream: Stream, device: str = "cpu") -> list[Tensor]:
    """The matrix of every experience's test set; a set that several share is looked at once."""
    solver, found = learner["solver"].eval(), {}
    for k, part in enumerate(stream.parts):
        key = id(part["x_test"])
        if key not in found:
            found[key] = confusion(solver, *stream.test(k), stream.n_classes, device)
    return [found[id(part["x_test"])] for part in stream.parts]


def evaluate(learner: dict, stream: Stream, device: str = "cpu") -> np.ndarray:
    """Row (K,) of R: mean IoU over the classes of each experience, on its test set.

    In the class scenario the background is in every experience and counts in none of them.
    """
    row = []
    for part, matrix in zip(stream.parts, confusions(learner, stream, device), strict=True):
        classes = part["classes"][1:] if stream.scenario == "class" else part["classes"]
        row.append(iou(matrix)[list(classes)].nanmean().item())
    return np.array(row)


def watch(stream: Stream) -> Callable[[Tick], list[float]]:
    """A function of a tick: the IoU of every class, from *one* matrix over all test images."""

    def measured(tick: Tick) -> list[float]:
        device = next(tick.learner["solver"].parameters()).device
        each_once = {id(one): one for one in confusions(tick.learner, stream, device)}
        return iou(sum(each_once.values())).tolist()

    return measured


def summary(history: list[list[float]]) -> dict:
    """{} without history, else "iou", a row per experience, and at the end "miou" over all classes.

    Also "miou_foreground", without class 0. Classes that no test pixel has count nowhere.
    """
    if not history:
        return {}
    last = np.array(history[-1])
    means = {"miou": np.nanmean(last), "miou_foreground": np.nanmean(last[1:])}
    return {"iou": history} | {name: float(value) for name, value in means.items()}
