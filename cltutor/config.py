"""Make a method's Config from names and values that a person typed.

A Config is a frozen dataclass. Its fields are numbers, booleans, strings or a `Literal` of
strings; a number may carry `metadata=dict(source=, range=(low, high))`. This module, the panels
and the docs read that and nothing else.
"""

import dataclasses
import math
from typing import Literal, get_args, get_origin, get_type_hints

from cltutor.errors import UserError

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def asdict(cfg) -> dict:
    """The fields of a Config in their order."""
    return dataclasses.asdict(cfg)


def make(config_class, **values):
    """A Config with `values`, each checked for its name, type and range.

    Strings are read as the field's type, so that "--set lr=1e-3" needs no more than this.

    Raises:
        UserError: one line that names the field and what it may be.
    """
    kinds = get_type_hints(config_class)
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    for name, value in values.items():
        if name not in fields:
            raise UserError(f"unknown setting {name!r}: choose one of {', '.join(fields)}.")
        values[name] = read(name, value, kinds[name])
        low, high = fields[name].metadata.get("range", (None, None))
        if low is not None and not low <= values[name] <= high:
            raise UserError(f"{name}={value} is out of range: it goes from {low} to {high}.")
    return config_class(**values)


def read(name: str, value, kind: type):
    """`value`, perhaps typed as text, as `kind`: int, float, bool, str or a Literal."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise UserError(f"{name}={value} is not one of {', '.join(get_args(kind))}.")
        return value
    if kind is bool:
        if isinstance(value, str) and value.lower() in TRUE + FALSE:
            return value.lower() in TRUE
        if isinstance(value, bool):
            return value
        raise UserError(f"{name}={value} is neither true nor false.")
    if isinstance(value, bool) or (kind is int and isinstance(value, float)):
        raise UserError(f"{name}={value} is not of type {kind.__name__}.")
    try:
        made = kind(value)
    except (TypeError, ValueError):
        raise UserError(f"{name}={value} is not of type {kind.__name__}.") from None
    if kind is float and not math.isfinite(made):
        raise UserError(f"{name}={value} is not a finite number.")
    return made
