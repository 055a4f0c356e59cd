"""Graded exercises: variants whose constants and conventions a key draws.

What a course's answer is depends on the key, which only its teachers have. A module per notebook
has `variant(rng)`: the statement, the reference solution as source, and typical mistakes as changes
of that source, so that each is known to be wrong. Hidden cases are drawn when a course is graded.
"""

import hashlib
import random

from cltutor.course.variant import Variant
from cltutor.course.variants import (
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
from cltutor.errors import UserError

NOTEBOOKS = {
    "00": forgetting,
    "01": vae_generative_replay,
    "02": mergan,
    "03": dynamic_generative_memory,
    "04": latent_memories,
    "05": ddim_steps,
    "06": generative_distillation,
    "07": joint_diffusion,
    "08": feature_forgetting,
    "09": vdfd,
    "10": vdfd_segmentation,
    "11": compare,
}
KEY_LENGTH = 8  # characters at least


def variants(key: str) -> list[Variant]:
    """The graded exercises of a course. Raises UserError if the key is too easy to guess."""
    if len(key) < KEY_LENGTH:
        raise UserError(f"the key has {len(key)} characters: take {KEY_LENGTH} or more.")
    return [module.variant(drawing(key, name)) for name, module in NOTEBOOKS.items()]


def drawing(key: str, *names: str) -> random.Random:
    """A generator that depends on the key and the names alone."""
    digest = hashlib.sha256("/".join((key, *names)).encode()).digest()
    return random.Random(int.from_bytes(digest, "big"))
