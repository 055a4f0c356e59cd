"""The measurements of one fit."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cltutor import metrics


@dataclass
class Result:
    """What was measured of one fit; K experiences.

    Attributes:
        R: (K, K) float64; R[i, j] is the test accuracy on experience j after training through i.
            A row is NaN where the experience was left out of the stream.
        R0: (K,) the same of the untrained learner.
        losses: per experience {role: means over up to 100 equal stretches of steps}.
        seconds: per experience, of training alone.
        carried: per experience {role: (numbers, bytes)}.
        values: {name: [of the untrained learner, after experience 0, 1, ...]} of the `watch`
        functions. folder: where the checkpoints are.
    """

    method: str
    stream: str
    scenario: str
    config: dict
    R: np.ndarray | None = None
    R0: np.ndarray | None = None
    losses: list[dict] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    carried: list[dict] = field(default_factory=list)
    values: dict[str, list] = field(default_factory=dict)
    environment: dict = field(default_factory=dict)
    folder: Path | None = None

    def summary(self) -> dict:
        """The main numbers, as JSON holds them; without transfer if there was one experience."""
        transfer = {} if len(self.R) < 2 else {
            "bwt": metrics.bwt(self.R),
            "fwt": metrics.fwt(self.R, self.R0),
            "forgetting": metrics.forgetting(self.R),
        }  # fmt: skip
        return {
            "acc": metrics.acc(self.R),
            **transfer,
            "R": self.R.round(4).tolist(),
            "R0": self.R0.round(4).tolist(),
            "seconds": [round(seconds, 3) for seconds in self.seconds],
            "carried": self.carried[-1],
        }
