"""What of a method can be a switch, and between which values: read from its Config. No widgets."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal, get_args, get_origin, get_type_hints

from cltutor import recipe
from cltutor.errors import UserError
from cltutor.stream import Scenario

FEW = 50  # up to so many whole numbers, a slider offers every one
DECADES = 6  # below the largest value, where a range begins at 0 and the value is 0


@dataclasses.dataclass(frozen=True)
class Field:
    """A switch: its type, a number's range, its value in the profile, where that is from."""

    name: str
    kind: type
    bounds: tuple | None
    value: object
    source: str | None = None

    @property
    def choices(self) -> list | None:
        """All values that are offered; None for a whole number that only names something."""
        if get_origin(self.kind) is Literal:
            return list(get_args(self.kind))
        if self.kind is bool:
            return [False, True]
        low, high = self.bounds
        if self.kind is int and low == 0 and high > 10**6:  # as a seed does
            return None
        return scale(low, high, self.value, self.kind is int)


def read(settings) -> dict[str, Field]:
    """{name: Field} of a dataclass with its values; range and source stand in the metadata."""
    kinds, found = get_type_hints(type(settings)), {}
    for field in dataclasses.fields(settings):
        name, told = field.name, field.metadata
        facts = told.get("range"), getattr(settings, name), told.get("source")
        found[name] = Field(name, kinds[name], *facts)
    return found


def switches(
    methods: Sequence[str], names: Sequence[str], profile: str, seed: int, **chosen
) -> dict[str, list[Field]]:
    """{method: its fields among `names`, in that order}; "scenario" is a field of the stream.

    `chosen`: `preset`, `stream`, `scenario` of `recipe.setting`, where not the profile's.

    Raises:
        UserError: an unknown method or profile, a name that no method has, a field that has
            neither choices nor a range.
    """
    found: dict[str, list[Field]] = {}
    for method in methods:
        _, stream, cfg = recipe.setting(method, profile, seed, **chosen)
        known = {"scenario": Field("scenario", Scenario, None, stream.scenario)} | read(cfg)
        found[method] = [known[name] for name in names if name in known]
    every = [field for fields in found.values() for field in fields]
    unknown = [name for name in names if name not in {field.name for field in every}]
    if unknown:
        raise UserError(f"no switch {', '.join(unknown)} in {' or '.join(methods)}.")
    for field in every:
        if (
            field.bounds is None
            and field.kind is not bool
            and get_origin(field.kind) is not Literal
        ):
            raise UserError(f"{field.name} cannot be a switch: it has neither choices nor a range.")
    return found


def scale(low: float, high: float, value: float, whole: bool) -> list:
    """What a slider from `low` to `high` offers, `value` among it.

    Every whole number if they are few, twenty equal steps in a narrow range, else 1, 2, 5, 10, 20
    and so on; a range that begins at 0 has 0 and what is above a thousandth of `value`.
    """
    if whole and high - low <= FEW:
        return list(range(low, high + 1))
    if low < 0 or (low > 0 and high / low < 20):
        series = [low + (high - low) * n / 20 for n in range(21)]
    else:
        start = low or (value / 1000 if value else high / 10**DECADES)
        powers = range(math.floor(math.log10(start)), math.ceil(math.log10(high)) + 1)
        series = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
        series = [one for one in series if one >= start * (1 - 1e-9)]
    if whole:
        series = [round(one) for one in series if one >= 1]
    return sorted({low, value, high, *(one for one in series if low <= one <= high)})


def written(value) -> str:
    """A setting as text: true and false in small letters, numbers short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value
    return f"{value:,.12g}".replace("e+0", "e").replace("e-0", "e-")
