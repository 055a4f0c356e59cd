"""Draws depend on (seed, k, name) alone; networks on (seed, name); nothing on who else draws."""

import random
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from threading import Barrier

import numpy as np
import pytest
import torch
from torch import nn

from cltutor.seeds import build, frozen_copy, split_seed, state


def first(seed: int, k: int, *names: str) -> dict[str, int]:
    """The first draw from each generator."""
    high = 2**62
    return {
        name: torch.randint(high, (1,), generator=generator).item()
        for name, generator in split_seed(seed, k, *names).items()
    }


def make() -> nn.Module:
    return nn.Linear(40, 40)


def test_generators_by_name():
    generators = split_seed(3, 1, "batches", "replay")
    assert list(generators) == ["batches", "replay"]
    assert all(generator.device.type == "cpu" for generator in generators.values())


def test_a_generator_does_not_depend_on_the_others():
    both = first(3, 1, "batches", "replay")
    assert both == first(3, 1, "replay", "batches")
    assert both == first(3, 1, "batches") | first(3, 1, "replay")


def test_seed_k_and_name_all_count():
    # Among them pairs that a plain concatenation or sum would confuse: (1, 23) and (12, 3).
    numbers = (0, 1, 2, 3, 12, 23, 123)
    drawn = [first(seed, k, name)[name] for seed, k, name in product(numbers, numbers, ("a", "b"))]
    assert len(set(drawn)) == len(drawn)


def test_draws_are_the_same_everywhere():
    """The number of a first run, so that no other hash takes this one's place unnoticed."""
    assert split_seed(0, 0, "batches")["batches"].initial_seed() == 1475961212921942692


def test_build_depends_on_seed_and_name_alone():
    torch.manual_seed(1)
    one = build("solver", make, 0)
    torch.manual_seed(2)
    again = build("solver", make, 0)
    assert torch.equal(one.weight, again.weight) and one.weight is not again.weight
    assert not torch.equal(one.weight, build("generator", make, 0).weight)
    assert not torch.equal(one.weight, build("solver", make, 1).weight)


def test_build_loads_what_is_carried():
    other = build("solver", make, 5)
    carried = {"solver": state(other), "seen": 1}
    net = build("solver", make, 0, carried=carried)
    assert torch.equal(net.weight, other.weight)
    with torch.no_grad():
        net.weight.zero_()
    assert torch.equal(carried["solver"]["weight"], other.weight)  # a copy


@pytest.mark.parametrize("fails", [False, True])
def test_build_leaves_the_global_generators_alone(fails):
    def fail():
        torch.randn(3)
        raise RuntimeError("as a constructor may")

    torch.manual_seed(1)
    before = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()
    if fails:
        with pytest.raises(RuntimeError, match="as a constructor may"):
            build("solver", fail, 0)
        build("solver", make, 0)  # the lock is free again
    else:
        build("solver", make, 0)
    after = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


def test_two_threads_that_build_at_once_build_the_same():
    alone, together = build("solver", make, 0), Barrier(2)

    def builder(_):
        together.wait(timeout=60)
        return build("solver", lambda: nn.Sequential(make(), make(), make()), 0)[0]

    before = torch.get_rng_state()
    with ThreadPoolExecutor(2) as pool:
        nets = [net for _ in range(200) for net in pool.map(builder, range(2))]
    assert len(nets) == 400
    assert all(torch.equal(net.weight, alone.weight) for net in nets)
    assert torch.equal(before, torch.get_rng_state())


def test_state_is_a_copy():
    net = make()
    kept, weight = state(net), net.weight.detach().clone()
    with torch.no_grad():
        net.weight.zero_()
    assert torch.equal(kept["weight"], weight) and not kept["weight"].requires_grad
    assert kept.keys() == net.state_dict().keys()


def test_frozen_copy():
    net = nn.Sequential(make(), nn.Dropout(0.5)).train()
    teacher, weight = frozen_copy(net), net[0].weight.detach().clone()
    assert not any(module.training for module in teacher.modules())
    assert not any(weights.requires_grad for weights in teacher.parameters())
    assert net.training and all(weights.requires_grad for weights in net.parameters())
    with torch.no_grad():
        net[0].weight.zero_()
    assert torch.equal(teacher[0].weight, weight)
