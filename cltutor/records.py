"""Recorded results: what several seeds gave, shown beside a reader's own.

Shipped in data/recorded/, written by `cltutor verify ... --record`, or `cltutor sweep ... --record`
for several methods, and by nothing else.
NOTEBOOK.PROFILE.json holds the claims of every seed; METHOD.STREAM.PROFILE.json the measurements
of every setting and seed.
"""

import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np

from cltutor import config, metrics, recipe, shipped
from cltutor.errors import UserError
from cltutor.files import write_whole

SCHEMA = 1


def folder() -> Path:
    """Where the records are."""
    return shipped.data_dir() / "recorded"


def notebook(name: str, profile: str) -> dict | None:
    """The record of a notebook, or None if there is none."""
    return _read(folder() / f"{name}.{profile}.json")


def method(name: str, stream: str, profile: str, preset: str | None = None) -> dict | None:
    """The record of a method on a stream in a profile, or in another of the same settings.

    None if there is none.
    """
    today = recipe.configure(name, profile)
    others = recipe.load(name).PROFILES
    profiles = [profile, *(one for one in others if recipe.configure(name, one) == today)]
    found = (_read(folder() / f"{label(name, stream, one, preset)}.json") for one in profiles)
    return next((record for record in found if record), None)


def label(name: str, stream: str, profile: str, preset: str | None = None) -> str:
    """What the record of a method is called: METHOD.STREAM.PROFILE, or PROFILE-PRESET."""
    return f"{name}.{stream}.{profile}" + (f"-{preset}" if preset else "")


def everything() -> dict[str, dict]:
    """All records by the name of their file without its ending."""
    return {path.name[: -len(".json")]: _read(path) for path in sorted(folder().glob("*.json"))}


def values(record: dict | None, name: str, setting: str = "default") -> list:
    """The measurement `name` of every seed at `setting`, such as "default" or "replay=exact"."""
    runs = record["runs"] if record else []
    return [run["values"][name] for run in runs if run["setting"] == setting]


def claim_values(record: dict | None, name: str) -> list[float]:
    """The values of claim `name`, one per recorded seed."""
    runs = record["runs"] if record else []
    return [claim["value"] for run in runs for claim in run["claims"] if claim["name"] == name]


def describe(seen: list[float]) -> str:
    """Mean, 95 % prediction interval of one further run, and number of seeds, as words."""
    if len(seen) < 2:
        return "–"
    low, high = metrics.prediction_interval(seen)
    return f"{np.mean(seen):.3f} [{low:.3f}, {high:.3f}], {len(seen)} seeds"


def rows(record: dict) -> list[tuple[str, str, str]]:
    """(what, the paper's number, the recorded one) of each claim, else of each setting."""
    first = record["runs"][0]
    if first["claims"]:
        return [
            (
                claim["text"],
                "" if claim["paper"] is None else f"{claim['paper']:.3f} ({claim['source']})",
                describe(claim_values(record, claim["name"])),
            )
            for claim in first["claims"]
        ]
    measured = {run["setting"]: run["values"] for run in reversed(record["runs"])}
    return [
        (f"{name.upper()}, {setting}", "", describe(values(record, name, setting)))
        for setting in dict.fromkeys(run["setting"] for run in record["runs"])
        for name in ("acc", "fakes", "reverse")
        if name in measured[setting]
    ]


def config_hash(config: dict) -> str:
    """A short hash of settings, to tell a record of today's settings from an older one."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def is_stale(record: dict) -> bool:
    """Whether a method in the record has other settings today.

    A field that was added since counts with its default, which changes nothing: the goldens hold.
    """
    presets = record.get("presets", {})
    return any(
        config.asdict(recipe.load(name).Config()) | recorded | {"seed": 0}
        != settings_of(name, record["profile"], presets.get(name, record.get("preset")))
        | {"seed": 0}
        for name, recorded in record["config"].items()
    )


def settings_of(name: str, profile: str, preset: str | None = None) -> dict:
    """Today's settings of a method in a profile, without the seed."""
    settings = config.asdict(recipe.configure(name, profile, preset=preset)[1])
    del settings["seed"]
    return settings


def require_writable() -> None:
    """Raise UserError if no record can be written, before hours are spent on one."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder()).close()
    except OSError as error:
        raise UserError(
            f"cannot write to {folder()} ({error.strerror}): record from a checkout of your own."
        ) from None


def write(name: str, record: dict) -> Path:
    """Write a record, whole or not at all."""
    path = folder() / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps({"schema": SCHEMA, **record}, indent=1) + "\n").encode())
    return path


def _read(path: Path) -> dict | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
