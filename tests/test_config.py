"""cltutor.config: what a person typed becomes a Config, or one line says what it may be."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

import pytest

from cltutor import config, recipe
from cltutor.errors import UserError


@dataclass(frozen=True)
class Config:
    steps: int = field(default=5, metadata=dict(source="ours", range=(1, 100)))
    lr: float = field(default=1e-3, metadata=dict(source="ours", range=(1e-6, 1.0)))
    shift: float = 0.0
    replay: Literal["none", "exact"] = "none"
    soft: bool = field(default=False, metadata=dict(source="ours"))
    note: str = ""


@pytest.mark.parametrize(
    "name, typed, value",
    [
        ("steps", "7", 7),
        ("steps", 100, 100),
        ("steps", "1", 1),
        ("lr", "1e-3", 1e-3),
        ("lr", 1, 1.0),
        ("lr", "1e-6", 1e-6),
        ("shift", "-2.5", -2.5),
        ("replay", "exact", "exact"),
        ("note", "a b", "a b"),
        *(("soft", typed, True) for typed in (True, "true", "True", "yes", "on", "ON", "1")),
        *(("soft", typed, False) for typed in (False, "false", "no", "off", "0")),
    ],
)
def test_values_are_read_as_the_type_of_their_field(name, typed, value):
    made = getattr(config.make(Config, **{name: typed}), name)
    assert made == value and type(made) is type(value)


def test_defaults_and_the_order_of_fields():
    assert config.make(Config) == Config()
    assert list(config.asdict(Config())) == ["steps", "lr", "shift", "replay", "soft", "note"]
    assert config.make(Config, steps=3, soft="on") == Config(steps=3, soft=True)


@pytest.mark.parametrize(
    "name, typed, words",
    [
        ("stepss", 3, "unknown setting 'stepss': choose one of steps, lr, shift, replay, soft"),
        ("steps", "1.5", "steps=1.5 is not of type int"),
        ("steps", 1.5, "steps=1.5 is not of type int"),
        ("steps", 2.0, "not of type int"),
        ("steps", "many", "steps=many is not of type int"),
        ("steps", "", "not of type int"),
        ("steps", True, "not of type int"),
        ("steps", None, "not of type int"),
        ("steps", 0, "steps=0 is out of range: it goes from 1 to 100"),
        ("steps", "101", "steps=101 is out of range"),
        ("lr", "fast", "lr=fast is not of type float"),
        ("lr", 2, "lr=2 is out of range"),
        ("lr", "nan", "lr=nan"),
        ("lr", "inf", "lr=inf"),
        ("lr", False, "not of type float"),
        ("shift", "nan", "shift=nan is not a finite number"),
        ("shift", float("inf"), "shift=inf is not a finite number"),
        ("shift", "-inf", "shift=-inf is not a finite number"),
        ("replay", "exakt", "replay=exakt is not one of none, exact"),
        ("replay", 1, "replay=1 is not one of none, exact"),
        ("soft", "maybe", "soft=maybe is neither true nor false"),
        ("soft", 1, "soft=1 is neither true nor false"),
        ("note", True, "not of type str"),
    ],
)
def test_wrong_values_are_refused_in_one_line(name, typed, words):
    with pytest.raises(UserError, match=words) as raised:
        config.make(Config, **{name: typed})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("method", recipe.methods())
def test_every_default_and_every_profile_is_in_range(method):
    """`make` checks what it is given, so the defaults are given to it, as text."""
    module = recipe.load(method)
    for profile in module.PROFILES:
        for preset in (None, *module.PRESETS):
            _, cfg = recipe.configure(method, profile, preset=preset)
            typed = {name: str(value) for name, value in config.asdict(cfg).items()}
            assert config.make(module.Config, **typed) == cfg


@pytest.mark.parametrize("method", recipe.methods())
def test_every_number_has_a_range_and_a_source(method):
    for spec in dataclasses.fields(recipe.load(method).Config):
        if type(spec.default) in (int, float):
            low, high = spec.metadata["range"]
            assert low <= spec.default <= high and spec.metadata["source"]
