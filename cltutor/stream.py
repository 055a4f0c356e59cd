"""A stream hands a method one experience at a time; the method hands back ticks.

Teaching choices that hold for every method of the kit:

- one head over all classes of the stream, present from the start;
- in the class and domain scenarios no logit is masked; in the task scenario the logits of the
  classes outside the sample's own experience are, in training as at test (`visible`);
- the optimiser starts anew at each experience.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from cltutor.errors import UserError
from cltutor.seeds import split_seed

Scenario = Literal["class", "domain", "task"]


@dataclass(frozen=True)
class Experience:
    """What is there to learn at one moment (the papers' task).

    Attributes:
        k: position in the stream, 0-based; never renumbered.
        classes: ids of the classes that occur, among all classes of the stream.
        x: (N, C, H, W) float32 images in [0, 1].
        y: (N,) int64 class ids, -1 where there is no label; or (N, H, W), one for each pixel,
            -100 where it counts nowhere.
        x_test, y_test: the same for the test set. Methods do not read them.
    """

    k: int
    classes: tuple[int, ...]
    x: torch.Tensor
    y: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


class Tick:
    """What a method shows of itself after every optimiser step and at the end of an experience.

    Attributes:
        k, step, of: experience, steps taken in it, steps that it takes in all.
        losses: {role: 0-d tensor}, detached; empty while sampling and on ticks with `carried`.
        learner: {role: network}, live: read, evaluate, never train. After an end tick a method
            does not touch these networks again.
        carried: {role: {name: tensor} | tensor | int}: all that goes on to the next experience.
        end: whether the experience is over.
    """

    __slots__ = ("k", "step", "of", "losses", "learner", "carried", "end")

    def __init__(self, k, step, of, losses, learner, carried=None, end=None):
        self.k, self.step, self.of = k, step, of
        self.losses = {role: value.detach() for role, value in losses.items()}
        self.learner, self.carried = learner, carried
        self.end = carried is not None if end is None else end


@dataclass(frozen=True)
class Stream:
    """A sequence of experiences. Iterating gives each one once; a method cannot look back or ahead.

    Images are kept as the data set's integers and become floats one experience at a time.

    Attributes:
        name: for people, such as "split-digits".
        scenario: what is known at test: nothing ("class"), that only the inputs differ ("domain"),
            or the experience ("task"); van de Ven, Tuytelaars & Tolias 2022.
        n_classes: outputs of the one head.
        shape: (C, H, W) of an image.
        target: "label": y is (N,) class ids; "map": (N, H, W).
    """

    name: str
    scenario: Scenario
    n_classes: int
    shape: tuple[int, int, int]
    parts: tuple[dict, ...] = field(repr=False)
    levels: int = 255
    target: Literal["label", "map"] = "label"
    first: int = 0
    skipped: tuple[int, ...] = ()

    def __len__(self) -> int:
        """How many experiences the whole stream has, skipped ones included: R is (len, len)."""
        return len(self.parts)

    @property
    def measure(self) -> str:
        """What R holds: "accuracy", or "IoU", the mean over the classes, where labels are maps."""
        return "IoU" if self.target == "map" else "accuracy"

    @property
    def ks(self) -> list[int]:
        """The experiences that iterating gives."""
        return [k for k in range(self.first, len(self.parts)) if k not in self.skipped]

    def __iter__(self) -> Iterator[Experience]:
        for k in self.ks:
            yield self._experience(k)

    def _experience(self, k: int) -> Experience:
        part, (x_test, y_test) = self.parts[k], self.test(k)
        return Experience(k, part["classes"], self._images(k, "x"), part["y"], x_test, y_test)

    def _images(self, k: int, name: str) -> torch.Tensor:
        part = self.parts[k]
        x = part[name].flatten(1).float() / self.levels
        if part["permutation"] is not None:
            x = x[:, part["permutation"]]
        return x.view(-1, *self.shape)

    def test(self, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The test set (x, y) of experience k, past or future; only the recipe reads it."""
        return self._images(k, "x_test"), self.parts[k]["y_test"]

    def after(self, k: int) -> "Stream":
        """The rest of the stream behind experience k: what an interrupted run still has to see."""
        return replace(self, first=k + 1)

    def without(self, k: int) -> "Stream":
        """The stream in which experience k never happens; every other experience keeps its k.

        Raises:
            UserError: there is no experience k.
        """
        if k not in range(len(self)):
            raise UserError(f"no experience {k}: this stream has 0 to {len(self) - 1}.")
        return replace(self, skipped=(*self.skipped, k))

    @property
    def checksum(self) -> str:
        """sha256 over everything that a method or the recipe could see."""
        digest = hashlib.sha256()
        facts = (self.scenario, self.n_classes, self.shape, self.levels, self.first, self.skipped)
        digest.update(repr(facts).encode())
        for part in self.parts:
            digest.update(repr(part["classes"]).encode())
            for name in ("x", "y", "x_test", "y_test", "permutation"):
                if part[name] is not None:
                    digest.update(part[name].contiguous().numpy().tobytes())
        return digest.hexdigest()


def class_order(n_classes: int, seed: int) -> list[int]:
    """Which classes come when: 0, 1, 2, ... for seed 0, else a permutation drawn from the seed.

    So seed 0 is easy to talk about and the other seeds vary the order (as in the code of van de
    Ven et al. 2022).
    """
    if seed == 0:
        return list(range(n_classes))
    return torch.randperm(n_classes, generator=split_seed(seed, 0, "order")["order"]).tolist()


def batches(
    x: torch.Tensor,
    y: torch.Tensor,
    size: int,
    steps: int,
    rng: torch.Generator,
    device: str = "cpu",
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """`steps` batches of (x, y) in passes that `rng` reshuffles.

    The last batch of a pass is dropped when it is not full, unless it is the pass's only one.
    """
    x, y, order = x.to(device), y.to(device), torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < min(size, len(x)):
            order = torch.randperm(len(x), generator=rng)
        batch, order = order[:size].to(device), order[size:]
        yield x[batch], y[batch]


def visible(logits: torch.Tensor, classes, scenario: Scenario) -> torch.Tensor:
    """The logits that count: all of them, or in the task scenario only those of `classes`.

    With the others at minus infinity, one head over all classes is the multi-head network of the
    task scenario, in training as at test.

    Args:
        logits: (B, n_classes), or (B, n_classes, H, W).
        classes: ids of the classes of the experience, or (B, n_classes) bool, a row per sample.
    """
    if scenario != "task":
        return logits
    if not torch.is_tensor(classes):
        ids = torch.tensor(classes, device=logits.device)
        classes = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
        classes[ids] = True
        classes = classes.view(-1, *[1] * (logits.ndim - 2))
    return logits.masked_fill(~classes, float("-inf"))


def require_suiting(logits: torch.Tensor, y: torch.Tensor) -> None:
    """Raise UserError unless logits (B, n_classes, ...) suit labels (B, ...): images or pixels."""
    if logits.ndim != y.ndim + 1:
        each, other = ("pixel", "image") if logits.ndim > y.ndim + 1 else ("image", "pixel")
        raise UserError(
            f"this network answers for every {each}, and the stream has a label for every {other}: "
            "mib and net=segmenter are for streams such as voc-canvas16-6-2, all else for those "
            "such as split-digits."
        )


def mates(classes: tuple[int, ...], n_classes: int, before: torch.Tensor | None) -> torch.Tensor:
    """Which classes have met in one experience, (n_classes, n_classes) bool: the role "classes".

    Row c is what `visible` shows for a sample of class c; the diagonal tells the classes seen so
    far.
    """
    met = torch.zeros(n_classes, n_classes, dtype=torch.bool) if before is None else before.clone()
    met[torch.tensor(classes)[:, None], torch.tensor(classes)] = True
    return met


def keep(buffer: dict | None, x: torch.Tensor, y: torch.Tensor) -> dict:
    """The role "buffer" with real samples (x, y) added: x (N, C, H, W) as uint8 pixels, y (N,)."""
    new = {"x": (x * 255).round().to(torch.uint8), "y": y}
    old = buffer or {name: tensor[:0] for name, tensor in new.items()}
    return {name: torch.cat([old[name], new[name]]) for name in new}
