"""Is the environment sound? What `cltutor check-install` prints, and the check before a run."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import platformdirs
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from cltutor.errors import InstallError
from cltutor.shipped import data_dir, verify

GB = 10**9


@dataclass(frozen=True)
class Check:
    """One line of `check-install`: `mend` says in one sentence what to do where `ok` is False."""

    name: str
    ok: bool
    found: str
    mend: str


def checks() -> list[Check]:
    """Everything a run relies on, in the order in which to mend it. Writes nothing that stays."""
    return [
        _python(),
        *_dependencies(),
        _pair(),
        _operators(),
        _memory(),
        *_folders(),
        _data(),
    ]


def require_matching_torch() -> None:
    """Raise InstallError unless torch is the one that torchvision was built for.

    Reads package metadata only (milliseconds): a pair that does not match fails at import, with a
    message that names neither.
    """
    pair = _pair()
    if not pair.ok:
        raise InstallError(f"torch and torchvision do not match ({pair.found}). {pair.mend}")


def _python() -> Check:
    version = platform.python_version()
    return Check(
        "Python",
        SpecifierSet(">=3.11").contains(version, prereleases=True),
        version,
        "Install Python 3.11 or newer and set cltutor up again with it.",
    )


def _dependencies() -> Iterator[Check]:
    try:
        requirements = [Requirement(line) for line in metadata.requires("cltutor")]
    except metadata.PackageNotFoundError:
        yield Check(
            "cltutor",
            False,
            "not installed in this environment",
            "Run `python3 start.py run` in the checkout, or `pip install -e .` there.",
        )
        return
    for requirement in requirements:
        if requirement.marker is None:
            found = _version(requirement.name)
            yield Check(
                requirement.name,
                found is not None and requirement.specifier.contains(found, prereleases=True),
                found or "missing",
                f'Run `pip install "{requirement}"`.',
            )


def _pair() -> Check:
    torch, torchvision = _version("torch"), _version("torchvision")
    wanted = None
    if torchvision:
        requirements = map(Requirement, metadata.requires("torchvision"))
        wanted = next(r.specifier for r in requirements if r.name == "torch")
    return Check(
        "torch matches torchvision",
        bool(torch and torchvision) and wanted.contains(torch, prereleases=True),
        f"torch {torch or 'missing'}, torchvision {torchvision or 'missing'}"
        + (f", which needs torch{wanted}" if wanted else ""),
        "Install both from one release: `pip install --upgrade torch torchvision`.",
    )


def _operators() -> Check:
    # The compiled half of torchvision loads late: its metadata can match a torch it was not
    # compiled for, such as a CUDA build beside a CPU-only one.
    try:
        import torch
        from torchvision.ops import nms

        nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except (ImportError, OSError, RuntimeError) as error:
        ok, found = False, str(error).strip().partition("\n")[0]
    else:
        ok, found = True, "its operators load"
    return Check(
        "torchvision loads",
        ok,
        found,
        "Install both from one index: `pip install --force-reinstall --no-deps torch torchvision`.",
    )


def _memory() -> Check:
    import psutil  # comes with Jupyter; a bare GPU machine runs the kit without it

    memory = psutil.virtual_memory()
    return Check(
        "memory",
        memory.total >= 2 * GB,
        f"{memory.total / GB:.1f} GB, {memory.available / GB:.1f} GB of it free",
        "Use a machine with at least 2 GB of memory.",
    )


def _folders() -> Iterator[Check]:
    cache = Path(os.environ.get("CLTUTOR_CACHE") or platformdirs.user_cache_dir("cltutor"))
    yield _writable("cache folder", cache, "Set CLTUTOR_CACHE to a folder that you can write in.")
    yield _writable("output folder", Path("runs"), "Change to a folder that you can write in.")
    if root := os.environ.get("CLTUTOR_DATA"):
        # One data root may serve a whole course, readable only.
        if Path(root).is_dir() and not os.access(root, os.W_OK):
            yield Check("data folder", True, f"{root}, readable only", "")
        else:
            mend = "Set CLTUTOR_DATA to the folder of the data sets, or unset it."
            yield _writable("data folder", Path(root), mend)


def _writable(name: str, folder: Path, mend: str) -> Check:
    """Whether `folder`, made if it is not there yet, takes files and has 1 GB free."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        return Check(name, False, f"{folder}: {error.strerror}", mend)
    if free < GB:
        mend = f"Free at least 1 GB on the disk of {there}."
    return Check(name, free >= GB, f"{folder}, {free / GB:.1f} GB free", mend)


def _data() -> Check:
    files = verify()
    altered = [path.name for path, ok in files if not ok]
    if not files:
        found = f"{data_dir()} has no checksums"
    elif altered:
        found = f"missing or altered: {', '.join(altered)}"
    else:
        found = f"{len(files)} files as shipped"
    return Check(
        "embedded data",
        bool(files) and not altered,
        found,
        "Restore them with `git checkout data`, or install cltutor again.",
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
