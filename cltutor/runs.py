"""What `cltutor run` and `cltutor verify` do: a run of a notebook or a method, or one per seed."""

import contextlib
import datetime
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cltutor import cache, claims, config, measures, metrics, notebook, recipe, records
from cltutor.errors import UserError

ATTEMPTS = 100  # at giving a folder its name while other runs do the same


def pairs(changes: list[str], option: str = "--set") -> dict[str, str]:
    """["key=value", ...] as a dict. Raises UserError for one without "="."""
    for change in changes:
        if "=" not in change:
            raise UserError(f"{option} {change} is not of the form KEY=VALUE.")
    return dict(change.split("=", 1) for change in changes)


def target(name: str) -> Path | str:
    """The notebook's file, or the method's name. Raises UserError, naming the choices."""
    path = notebook.find(name)
    if path is None and name not in recipe.methods():
        known = ", ".join(notebook.names() + recipe.methods())
        raise UserError(f"{name!r} is neither a notebook nor a method: choose one of {known}.")
    return path or name


def parameters(path: Path, profile: str, seed: int, changes: dict[str, str]) -> dict:
    """The values of a notebook's parameters, of the type of their defaults."""
    values = notebook.parameters(path)
    for name, text in ({"profile": profile, "seed": seed} | changes).items():
        if name not in values:
            raise UserError(f"unknown parameter {name!r}: {path.stem} has {', '.join(values)}.")
        values[name] = config.read(name, text, type(values[name]))
    if (profile := values["profile"]) not in claims.PROFILES:
        raise UserError(f"unknown profile {profile!r}: choose one of {', '.join(claims.PROFILES)}.")
    return values


def run_method(name: str, profile: str, seed: int, changes: dict) -> dict:
    """Fit a method, with the changes that `recipe.setting` takes; its result.json."""
    method, stream, cfg = recipe.setting(name, profile, seed, **changes)
    start = time.perf_counter()
    options = {"threads": 1, "progress": sys.stderr.isatty()}
    result = recipe.fit(method, stream, cfg, watch=measures.watched(stream), **options)
    return {
        "name": name,
        "claims": [],
        "values": measures.measured(result, stream),
        "config": {name: result.config},
        **measures.facts(start, result.environment),
    }


def run_notebook(path: Path, values: dict, folder: Path) -> dict:
    """Execute a notebook into `folder`, as .ipynb and .html; its result.json."""
    start = time.perf_counter()
    told = notebook.execute(path, values, folder / "executed.ipynb", sys.stderr.isatty())
    notebook.to_html(folder / "executed.ipynb", folder / "executed.html")
    return {
        "name": path.stem,
        **told,
        **measures.facts(start, cache.environment("cpu", "float32", 1)),
    }


def holds(result: dict) -> bool:
    """Whether all claims that rest on a live value hold."""
    return all(claim["ok"] for claim in live(result))


def live(result: dict) -> list[dict]:
    """The claims that rest on a value measured in the run."""
    return [claim for claim in result["claims"] if claim["live"]]


@contextlib.contextmanager
def new_folder(out: Path, name: str) -> Iterator[Path]:
    """A temporary folder that becomes OUT/NAME when all went well; nothing is written if not.

    Raises:
        UserError: OUT cannot be written to.
    """
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=out))
    except OSError as error:
        reason = error.strerror
        raise UserError(f"cannot write to {out} ({reason}): name a folder with --out.") from None
    try:
        yield temporary
        temporary.chmod(0o755)
        _rename(temporary, out / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):  # there is something in it
                folder.rmdir()


def _rename(folder: Path, name: Path) -> None:
    """Give `folder` its name; what has that name goes, be it another run's of this moment."""
    old = Path(tempfile.mkdtemp(prefix=f".{name.name}.old.", dir=name.parent))
    try:
        for attempt in range(ATTEMPTS):
            try:
                os.replace(folder, name)
                return
            except OSError:
                if attempt == ATTEMPTS - 1:
                    raise
            with contextlib.suppress(FileNotFoundError):  # the other run was faster
                os.replace(name, old / str(attempt))
    finally:
        shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, content: dict) -> None:
    """Write a result.json."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def verify_notebook(path: Path, profile: str, seeds: int) -> dict:
    """One run per seed; the record of them."""
    runs = []
    for seed in range(seeds):
        values = parameters(path, profile, seed, {})
        with tempfile.TemporaryDirectory() as folder:
            result = run_notebook(path, values, Path(folder))
        runs.append({"seed": seed, "setting": "default"} | result)
    return record(profile, runs[0]["config"], runs)


def verify_method(
    name: str, profile: str, seeds: int, vary=(), workers=1, probe=None, **chosen
) -> dict:
    """One run per seed with the profile's settings, and with every setting of `vary`; the record.

    Args:
        vary: "key=value,value": each value in turn, all else as in the profile. A key is a field
            of the Config, "scenario", or "without", an experience that is left out.
        probe: the kind of linear probes that are measured, too.
        chosen: `stream`, `preset` and `scenario` of `recipe.setting`, for all runs.
    """
    settings: dict[str, dict] = {"default": {}}
    for one in vary:
        ((key, options),) = pairs([one], "--vary").items()
        settings |= {f"{key}={value}": {key: value} for value in options.split(",")}
    jobs = {
        (label, seed): recipe.setting(name, profile, seed, **chosen | changes)
        for label, changes in settings.items()
        for seed in range(seeds)
    }
    options = {"workers": workers, "progress": sys.stderr.isatty()}
    watch = measures.watched(jobs["default", 0][1], probe)  # all runs are on one data set
    results = recipe.fit_many(jobs, watch=watch, **options)
    runs = [
        {
            "seed": seed,
            "setting": label,
            "claims": [],
            "values": measures.measured(result, jobs[label, seed][1], probe),
            "config": {name: result.config},
            **measures.facts(time.perf_counter(), result.environment),
            "seconds": round(sum(result.seconds), 1),
        }
        for (label, seed), result in results.items()
    ]
    return record_method(name, profile, runs, chosen.get("preset"))


def record_method(name: str, profile: str, runs: list[dict], preset: str | None = None) -> dict:
    """The record of several runs of a method."""
    made = record(profile, {name: records.settings_of(name, profile, preset)}, runs)
    return made | ({"preset": preset} if preset else {})


def verify_command(name: str, profile: str, seeds: int, chosen: dict, vary: list[str]) -> str:
    """The command that a record names: it writes the record again.

    Args:
        chosen: the options with a value: "preset", "stream", "scenario", "probe".
        vary: "key=value,value", as for `verify_method`.
    """
    words = ["cltutor verify", name, f"--profile {profile} --seeds {seeds}"]
    words += [f"--{key} {value}" for key, value in chosen.items() if value]
    return " ".join([*words, *(f"--vary {option}" for option in vary), "--record"])


def record(profile: str, settings: dict, runs: list[dict]) -> dict:
    """The record of several runs, as it is shipped."""
    facts = ("device", "precision", "threads", "versions", "presets")
    kept = ("seed", "setting", "values", "seconds", "peak_mb")
    return {
        "date": datetime.date.today().isoformat(),
        "profile": profile,
        "code": {name: cache.code_hash(name)[:16] for name in settings},
        "config": settings,
        "config_hash": records.config_hash(settings),
        **{name: runs[0][name] for name in facts if name in runs[0]},
        "runs": [{name: run[name] for name in kept} | {"claims": live(run)} for run in runs],
    }


def faults(record: dict) -> list[str]:
    """What keeps a record's claims from being asserted, in sentences; none if all is well.

    Every seed must satisfy every live claim, and the 95 % prediction interval of one further run
    must lie within the claim's threshold.
    """
    found = []
    for claim in record["runs"][0]["claims"]:
        seen = records.claim_values(record, claim["name"])
        low, high = metrics.prediction_interval(seen) if len(seen) > 1 else (seen[0], seen[0])
        low, high = min(low, *seen), max(high, *seen)
        at_least, at_most = claim["at_least"], claim["at_most"]
        holds = (at_least is None or low >= at_least) and (at_most is None or high <= at_most)
        if not holds:  # also where a value is NaN
            found.append(f"{claim['name']}: {records.describe(seen)} is not within its threshold")
    return found
