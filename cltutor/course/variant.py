"""What a graded exercise is, once a key has drawn its constants and conventions."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Variant:
    """One graded exercise as the key makes it.

    Attributes:
        id: NOTEBOOK-graded.
        points: what it is worth.
        text: the statement, in Markdown.
        stub: the source that students get; `function` is what it defines.
        solution: the source of the reference.
        mistakes: (old, new, hint): a change of the solution, and what to say of it.
        cases: draws {name of a hidden test: [arguments of a call, ...]} from a generator.
        verdicts: for answers that are drawn at random: {name: hint, or None if it is right} of
            {name: [(arguments, answer), ...]}. None: every answer has to be the reference's.
        compared: what nbgrader and otter compare, an expression of `arguments` and `answer`.
    """

    id: str
    points: int
    function: str
    text: str
    stub: str
    solution: str
    mistakes: tuple[tuple[str, str, str], ...]
    cases: Callable[[np.random.Generator], dict[str, list[tuple]]]
    verdicts: Callable[[dict], dict] | None = None
    compared: str = "answer"

    def reference(self) -> Callable:
        """The solution as a function."""
        return compiled(self.solution, self.function)

    def wrong(self) -> list[tuple[str, Callable]]:
        """(hint, function) of every typical mistake."""
        found = []
        for old, new, hint in self.mistakes:
            if self.solution.count(old) != 1:
                raise ValueError(f"{self.id}: {old!r} does not stand once in the solution")
            found.append((hint, compiled(self.solution.replace(old, new), self.function)))
        return found


def compiled(source: str, name: str) -> Callable:
    """The function `name` of a source of the kit's own (of nobody else's)."""
    space = {"math": math, "np": np, "torch": torch}
    exec(compile(source, f"<{name}>", "exec"), space)
    return space[name]
