"""Compute the cells of a plan, and keep a file for each.

A finished cell is a file of its own, named by everything that decides what is in it. So a sweep
that is started again, with the same plan or another, computes what is missing and nothing else.
"""

import functools
import hashlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from cltutor import cache, checkpoint, measures, recipe
from cltutor.errors import InstallError, UserError
from cltutor.files import write_whole
from cltutor.sweep_plan import Cell

SCHEMA = 1  # of the cells' files
THREADS = 1  # of torch, for every fit
_alone = threading.Lock()  # torch's number of threads belongs to the process


def names(cells: list[Cell]) -> list[str]:
    """The name of each cell's file; also checks every setting. Two cells may share a file.

    Raises:
        UserError: a setting is wrong, or a cell is there twice.
    """
    seen, found = set(), []
    for cell in cells:
        method, stream, cfg = cell.made()
        measures.watched(stream, cell.probe)
        if (what := (cell.label, stream.name, stream.scenario, cell.seed)) in seen:
            raise UserError(f"the plan has {cell} twice: take one of them out.")
        seen.add(what)
        found.append(_key(cell, method, stream, cfg))
    return found


def _key(cell: Cell, method: str, stream, cfg) -> str:
    """What decides a cell: all that decides its weights, and the code that measures them."""
    where = cache.environment("cpu", "float32", THREADS)
    trained = cache.cache_folder(method, stream, cfg, where, False).name
    facts = (SCHEMA, trained, measuring(), cell.probe)
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()
    return f"{method}.{stream.name}.{stream.scenario}.s{cfg.seed}.{digest[:16]}.json"


@functools.cache
def measuring() -> str:
    """The hash of the code that measures, as this process has loaded it."""
    return cache.source_hash("cltutor.measures")


def compute(cell: Cell) -> dict:
    """Fit and measure a cell in this process; what its file holds.

    "R" (K, K), exact, and "weights", the digest of what is carried after each experience, are there
    to be compared bit by bit; "values" is what records hold. If the fit fails, {"failed": why}.
    """
    with _alone:
        try:
            return _computed(cell)
        except Exception as error:  # what stops one cell does not stop the others
            return {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:300]}


def _computed(cell: Cell) -> dict:
    start, (method, stream, cfg) = time.perf_counter(), cell.made()
    watch = measures.watched(stream, cell.probe) | {"weights": _weights}
    result = recipe.fit(method, stream, cfg, watch=watch, threads=THREADS)
    return {
        "key": _key(cell, method, stream, cfg),
        "method": method,
        "stream": stream.name,
        "scenario": stream.scenario,
        "seed": cfg.seed,
        "config": result.config,
        "R": measures.without_nan(result.R.tolist()),
        "weights": result.values["weights"][1:],
        "values": measures.measured(result, stream, cell.probe),
        **measures.facts(start, result.environment),
        "seconds": round(sum(result.seconds), 1),
    }


def _weights(tick) -> str:
    return checkpoint.fingerprint(tick.carried or {})


def run(cells: list[Cell], out: Path, engine: Callable) -> list[dict]:
    """What each cell's file in `out` holds, or {"failed": why}; computes what is not there yet.

    Args:
        engine: takes `compute` and {name: cell}, gives (name, outcome) as they come; see
            cltutor/engines.py.

    Raises:
        UserError: a setting is wrong, or `out` takes no files.
    """
    keys, folder = names(cells), out / "cells"
    _require_writable(folder)
    wanted = dict(zip(keys, cells, strict=True))
    done = {key: content for key in wanted if (content := load(folder / key)) is not None}
    todo = {key: cell for key, cell in wanted.items() if key not in done}
    if done:
        print(f"{len(done)} of {len(wanted)} cells are there: {folder}", file=sys.stderr)
    pause = 0.1 if sys.stderr.isatty() else 60  # seconds: a log gets a line a minute
    steps = {"total": len(todo), "unit": "cell", "mininterval": pause, "maxinterval": pause}
    with tqdm(disable=not todo, **steps) as bar:
        for key, outcome in engine(compute, todo):
            if "failed" not in outcome and outcome["key"] != key:
                outcome = {"failed": "computed with other code, data or versions than are here."}
            if "failed" not in outcome:
                save(folder / key, outcome)
            done[key] = outcome
            bar.update()
    return [done[key] for key in keys]


def _require_writable(folder: Path) -> None:
    """Raise UserError if no file can be written, before hours are spent on one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"cannot write to {folder} ({error.strerror}): name a folder with --out."
        ) from None


def save(path: Path, content: dict) -> None:
    """Write a cell's file, whole or not at all, with a sha256 over what it says.

    Raises:
        InstallError: the disk is full, or the folder is gone.
    """
    text = json.dumps({"sha256": _digest(content), **content}, indent=1) + "\n"
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise InstallError(
            f"cannot write {path} ({error.strerror}): the same command goes on from there."
        ) from None


def load(path: Path) -> dict | None:
    """What a cell's file holds; None if there is none.

    A damaged file is renamed to end in ".damaged", with a line on stderr, and counts as none.
    """
    try:
        content = json.loads(path.read_bytes())
        if content.pop("sha256") != _digest(content):
            raise ValueError("its contents do not match its checksum")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        aside = path.with_name(path.name + ".damaged")
        with suppress(FileNotFoundError):  # another run was faster
            os.replace(path, aside)
        print(f"{path} is damaged ({error}): set aside as {aside.name}", file=sys.stderr)
        return None
    return content


def _digest(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
