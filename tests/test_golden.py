"""Every method on the toy stream, against stored numbers: nothing changes unnoticed.

After a change that is meant, `CLTUTOR_RENEW_GOLDENS=1 python -m pytest tests/test_golden.py` writes
tests/golden.json anew; the change of that file then belongs into the same commit.
"""

import dataclasses
import json
import os
from pathlib import Path

import pytest
from contract import found, variants

from cltutor import checkpoint, recipe

FILE = Path(__file__).with_name("golden.json")
SETTINGS = {
    f"{name}-{label}": (name, label)
    for name, module in found().items()
    for label in variants(module)
}


def weight(tick) -> float:
    """Sum of the absolute values of all weights that are carried."""
    tensors = checkpoint.flatten(tick.carried or {})[0].values()
    return sum(
        tensor.double().abs().sum().item() for tensor in tensors if tensor.is_floating_point()
    )


@pytest.fixture(scope="module")
def measured(toy_for, small_nets):
    """{setting: numbers}: R, the weights, the mean of each loss in each experience."""
    numbers = {}
    for setting, (name, label) in SETTINGS.items():
        module = found()[name]
        cfg = dataclasses.replace(variants(module, steps=60, most=32)[label], lr=0.01)
        result = recipe.fit(name, toy_for(name, label), cfg, watch={"weight": weight}, threads=1)
        numbers[setting] = {
            "R": result.R.tolist(),
            "weights": result.values["weight"][1:],
            "losses": [
                {role: sum(points) / len(points) for role, points in losses.items()}
                for losses in result.losses
            ],
        }
    if os.environ.get("CLTUTOR_RENEW_GOLDENS"):
        FILE.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    return numbers


@pytest.fixture(scope="module")
def golden(measured):
    return json.loads(FILE.read_text(encoding="utf-8"))


def test_the_goldens_are_of_todays_methods(golden):
    assert golden.keys() == SETTINGS.keys()


@pytest.mark.parametrize("setting", SETTINGS)
def test_golden(setting, golden, measured):
    then, now = golden[setting], measured[setting]
    for row_then, row_now in zip(then["R"], now["R"], strict=True):
        assert row_now == pytest.approx(row_then, rel=1e-4)
    assert now["weights"] == pytest.approx(then["weights"], rel=1e-4)
    for losses_then, losses_now in zip(then["losses"], now["losses"], strict=True):
        assert losses_now == pytest.approx(losses_then, rel=1e-4)


def test_the_toy_stream_can_be_learnt(measured):
    """Else the numbers above would say little."""
    assert min(measured["joint-default"]["R"][-1]) > 0.8
