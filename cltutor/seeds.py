"""Named randomness, and the two ways in which a network passes from one experience to the next.

A result depends on the configuration, the data and the versions, on nothing else. So every draw
comes from a CPU generator that is named where it is used, and no draw disturbs another: switching
replay off, skipping an experience or evaluating between two steps leaves all other draws as they
were.
"""

import copy
import hashlib
import threading
from collections.abc import Callable

import torch
from torch import nn

_building = threading.Lock()


def _hash(*parts) -> int:
    """A 63-bit integer that depends on all parts and on nothing else."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def split_seed(seed: int, k: int, *names: str) -> dict[str, torch.Generator]:
    """One CPU generator per name, a function of (seed, k, name) alone.

    Args:
        seed: the run's seed.
        k: the experience's index, 0-based.
        names: what the draws are for, such as "batches" or "replay".
    """
    return {name: torch.Generator().manual_seed(_hash(seed, k, name)) for name in names}


def build(
    name: str,
    make: Callable[[], nn.Module],
    seed: int,
    device: str = "cpu",
    carried: dict | None = None,
) -> nn.Module:
    """Make the network of role `name`: initialised from (seed, name), or as `carried` left it.

    The initialisation does not depend on the experience, so a method that starts a network anew
    starts from the same weights. The global generator, from which torch initialises, is lent under
    a lock and given back as it was: two threads that build at once get the weights they would get
    alone.
    """
    with _building, torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(_hash(seed, name))
        net = make()
    if carried is not None:
        net.load_state_dict(carried[name])
    return net.to(device)


def state(net: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of `net` as tensors of their own, which later training does not touch."""
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def frozen_copy(net: nn.Module) -> nn.Module:
    """A teacher: a copy of `net` in eval mode that needs no gradients."""
    return copy.deepcopy(net).eval().requires_grad_(False)
