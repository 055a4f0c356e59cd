"""Where the checkpoints of a fit are, and what they are called.

The folder is named by everything that decides the trained weights, so a result is never taken for
that of other settings, other code or another device.
"""

import ast
import hashlib
import importlib.util
import platform
from collections.abc import Iterator
from pathlib import Path

import torch

from cltutor import checkpoint, config, data
from cltutor.stream import Stream

FORMAT = 2  # of the files in the cache


def environment(device: str, precision: str, threads: int) -> dict:
    """What a result depends on beside configuration, code and data."""
    return {
        "device": device if device == "cpu" else torch.cuda.get_device_name(device),
        "precision": precision,
        "threads": threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def code_hash(method: str) -> str:
    """A hash of the code that trains: the method's file and all of cltutor that it imports."""
    return source_hash(f"cltutor.methods.{method}")


def source_hash(module: str) -> str:
    """A hash of a module and of all of cltutor that it imports.

    Of the syntax tree without docstrings, so that better prose does not make old results stale.
    """
    seen: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:  # a name inside a module, such as a function
            continue
        if name in seen or spec is None or spec.origin is None:
            continue
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cltutor"):
                waiting += [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
            elif isinstance(node, ast.Import):
                waiting += [name.name for name in node.names if name.name.startswith("cltutor")]
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
                if isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
                    body[0].value.value = ""
        seen[name] = ast.dump(tree)
    return hashlib.sha256(repr(sorted(seen.items())).encode()).hexdigest()


def sizes(carried: dict) -> dict[str, tuple[int, int]]:
    """{role: (numbers, bytes)} of what is carried; integers count as 8 bytes."""
    total = {}
    for role, value in carried.items():
        tensors = value.values() if isinstance(value, dict) else [value]
        tensors = [torch.as_tensor(tensor) for tensor in tensors]
        total[role] = (sum(t.numel() for t in tensors), sum(t.nbytes for t in tensors))
    return total


def cache_folder(method: str, stream: Stream, cfg, where: dict, compile: bool) -> Path:
    """The folder of a fit's checkpoints, named by everything that decides the trained weights."""
    facts = (FORMAT, config.asdict(cfg), code_hash(method), stream.checksum, where, compile)
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()
    return data.cache_dir() / "fits" / f"{method}-{stream.name}-{digest[:20]}"


def file_name(k: int, end: bool) -> str:
    """The name of the checkpoint of experience k: of its end, or of a stage before that."""
    return f"{k:03d}-{'end' if end else 'stage'}.safetensors"


def saved(folder: Path, stream: Stream) -> Iterator[tuple[int, bool, dict, dict]]:
    """(k, end, carried, facts) of the checkpoints in `folder`, up to the first that is not
    there."""
    for k in stream.ks:
        for end in (True, False):
            found = checkpoint.load(folder / file_name(k, end))
            if found is not None:
                yield k, end, *found
                break
        if found is None or not end:
            return
