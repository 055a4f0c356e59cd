"""Check an exercise: `check("01-importance", importance_share)` says "correct" or gives a hint.

An exercise is known by its id, NOTEBOOK-NAME; its check is in the module that is called like the
notebook. It knows properties and hand-worked values, not the solution, and tries typical mistakes
before it gives up on a value. `diagnose(run, stream, cfg)` looks for failures of a whole method.
"""

from collections.abc import Callable
from dataclasses import dataclass

from cltutor.check import (
    compare,
    ddim_steps,
    dynamic_generative_memory,
    feature_forgetting,
    forgetting,
    generative_distillation,
    joint_diffusion,
    latent_memories,
    mergan,
    vae_generative_replay,
    vdfd,
    vdfd_segmentation,
)
from cltutor.check.diagnosis import diagnose
from cltutor.check.hints import Hint
from cltutor.errors import UserError

__all__ = ["EXERCISES", "NOTEBOOKS", "Verdict", "check", "diagnose"]

NOTEBOOKS = (
    forgetting,
    vae_generative_replay,
    mergan,
    dynamic_generative_memory,
    latent_memories,
    ddim_steps,
    generative_distillation,
    joint_diffusion,
    feature_forgetting,
    vdfd,
    vdfd_segmentation,
    compare,
)
EXERCISES = {name: check for notebook in NOTEBOOKS for name, check in notebook.EXERCISES.items()}


@dataclass(frozen=True)
class Verdict:
    """What `check` found: true if the answer is right; shown as its message."""

    correct: bool
    message: str

    def __bool__(self) -> bool:
        return self.correct

    def __repr__(self) -> str:
        return self.message


def check(exercise: str, function: Callable) -> Verdict:
    """Try `function` on the cases of `exercise`.

    Raises:
        UserError: there is no exercise of that id.
    """
    if exercise not in EXERCISES:
        raise UserError(f"unknown exercise {exercise!r}: choose one of {', '.join(EXERCISES)}.")
    try:
        EXERCISES[exercise](function)
    except NotImplementedError:
        return Verdict(
            False, "Not written yet: fill in the function above and run this cell again."
        )
    except Hint as hint:
        return Verdict(False, f"Not yet. {hint}")
    except Exception as error:  # whatever a student's function may raise
        return Verdict(False, f"It stops with {type(error).__name__}: {error}")
    return Verdict(True, "Correct.")
