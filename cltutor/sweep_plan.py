"""Methods x settings x seeds x streams: what a sweep is to compute.

A plan is a list of parts, a part is one method on one stream at several settings and seeds, and a
cell is one of its fits.
"""

import dataclasses
import itertools
from pathlib import Path

import yaml

from cltutor import recipe
from cltutor.errors import UserError

SHARED = ("seeds", "streams", "scenario", "preset", "set", "vary", "grid")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One fit of a sweep: what `recipe.setting` takes, as a person typed it.

    `setting` is what a record calls it: "default", or what differs from that, "latent=2".
    """

    method: str
    profile: str
    preset: str | None
    stream: str
    scenario: str | None
    probe: str | None
    setting: str
    changes: dict[str, str]
    seed: int

    @property
    def label(self) -> str:
        """The method and what is special about it, for people."""
        words = [self.method, self.preset, *(f"{k}={v}" for k, v in self.changes.items())]
        return " ".join(word for word in words if word)

    def __str__(self) -> str:
        return f"{self.label} on {self.stream}, {self.scenario or 'its scenario'}, seed {self.seed}"

    def made(self) -> tuple:
        """(method, stream, cfg) for `recipe.fit`. Raises UserError where something is wrong."""
        chosen = {"preset": self.preset, "stream": self.stream, "scenario": self.scenario}
        return recipe.setting(self.method, self.profile, self.seed, **chosen | self.changes)


@dataclasses.dataclass(frozen=True)
class Part:
    """One method on one stream, at several settings and seeds; a record holds one part.

    Attributes:
        set: changes of every cell.
        vary: {key: values}: each value in turn, all else as it is; so `cltutor verify` has it.
        grid: {key: values}: all combinations, and each of them with every setting of `vary`.
    """

    method: str
    profile: str
    preset: str | None
    stream: str
    scenario: str | None
    probe: str | None
    seeds: tuple[int, ...]
    set: dict[str, str]
    vary: dict[str, list[str]]
    grid: dict[str, list[str]]

    def cells(self) -> list[Cell]:
        """The cells, setting by setting."""
        varied = [{}, *({key: value} for key in self.vary for value in self.vary[key])]
        combined = [
            dict(zip(self.grid, values, strict=True))
            for values in itertools.product(*self.grid.values())
        ]
        facts = (self.method, self.profile, self.preset, self.stream, self.scenario, self.probe)
        return [
            Cell(*facts, _words(one | other) or "default", self.set | one | other, seed)
            for one in combined
            for other in varied
            for seed in self.seeds
        ]


def _words(changes: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in changes.items())


def read(path: Path) -> dict:
    """What a plan's file says, for `parts`. Raises UserError, with the line of a fault in YAML."""
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the plan {path}: {error}.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}.") from None
    return _mapping(told, str(path))


def parts(told: dict) -> list[Part]:
    """The parts of a plan: a part for every method and stream.

    Args:
        told: "methods", "profile", "probe" and the names in SHARED. One of the methods is a name,
            or a mapping with "method" and names of SHARED, which then stand before those for all.

    Raises:
        UserError: an unknown name, or a value that is not what it should be.
    """
    _known(told, ("methods", "profile", "probe", *SHARED), "the plan")
    methods = told.get("methods")
    if not methods or not isinstance(methods, list):
        raise UserError("a plan needs methods: a list of names, or of mappings with a method.")
    found = []
    for one in methods:
        one = {"method": one} if isinstance(one, str) else _mapping(one, "an entry of methods")
        _known(one, ("method", *SHARED), "an entry of methods")
        if "method" not in one:
            raise UserError(f"an entry of methods has no method: {one}.")
        found += _parts({name: value for name, value in told.items() if name != "methods"} | one)
    return found


def _parts(told: dict) -> list[Part]:
    method, profile = (
        _word("method", told["method"]),
        _word("profile", told.get("profile", "quick")),
    )
    chosen = {name: _word(name, told.get(name)) for name in ("preset", "scenario", "probe")}
    named, _ = recipe.configure(method, profile, preset=chosen["preset"])
    streams = told.get("streams", named)
    if isinstance(streams, str):
        streams = [streams]
    changes = {
        "set": {key: _text(key, value) for key, value in _mapping(told.get("set"), "set").items()},
        "vary": _lists("vary", told.get("vary")),
        "grid": _lists("grid", told.get("grid")),
    }
    if any("seed" in settings for settings in changes.values()):
        raise UserError("the seed is no setting: say seeds.")
    facts = {"method": method, "profile": profile, "seeds": _seeds(told.get("seeds", 5))}
    return [
        Part(stream=_word("streams", stream), **facts, **chosen, **changes)
        for stream in _list("streams", streams)
    ]


def _known(told: dict, names: tuple[str, ...], where: str) -> None:
    for name in told:
        if name not in names:
            raise UserError(f"{where} has an unknown {name!r}: choose among {', '.join(names)}.")


def _mapping(value, name: str) -> dict:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{name} is no mapping of names to values: {value!r}.")
    return value


def _list(name: str, value) -> list:
    if not isinstance(value, list) or not value:
        raise UserError(f"{name} is no list with something in it: {value!r}.")
    return value


def _lists(name: str, value) -> dict[str, list[str]]:
    found = _mapping(value, name)
    return {key: [_text(key, one) for one in _list(key, found[key])] for key in found}


def _word(name: str, value) -> str | None:
    if value is not None and not isinstance(value, str):
        raise UserError(f"{name} is no name: {value!r}.")
    return value


def _text(key: str, value) -> str:
    """A setting as a person types it on the command line: what records call it by."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, int | float | str):
        raise UserError(f"{key} is neither a number nor a word: {value!r}.")
    return str(value)


def _seeds(value) -> tuple[int, ...]:
    """How many seeds, from 0, or which ones."""
    seeds = list(range(value)) if type(value) is int else value
    if not isinstance(seeds, list) or not seeds or any(type(seed) is not int for seed in seeds):
        raise UserError(f"seeds={value} is neither a number of seeds, 1 or more, nor a list.")
    return tuple(seeds)
