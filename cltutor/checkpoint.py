"""What a method carries, on disk: one safetensors file per tick with `carried`.

Tensors are stored under "role.name"; integers, the facts of the tick and a sha256 over all of these
are in the header of the same file, so that a checkpoint is whole or not there. Files are written
to a temporary name and renamed. One that does not load is set aside, named and not used.
"""

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from cltutor.errors import InstallError


def flatten(carried: dict) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """`carried` as tensors by "role" or "role.name", and integers by role."""
    tensors, integers = {}, {}
    for role, value in carried.items():
        if isinstance(value, dict):
            tensors |= {f"{role}.{name}": tensor for name, tensor in value.items()}
        elif torch.is_tensor(value):
            tensors[role] = value
        else:
            integers[role] = value
    return {key: tensor.contiguous() for key, tensor in tensors.items()}, integers


def unflatten(tensors: dict[str, torch.Tensor], integers: dict[str, int]) -> dict:
    """The inverse of `flatten`."""
    carried: dict = dict(integers)
    for key, tensor in tensors.items():
        role, dot, name = key.partition(".")
        if dot:
            carried.setdefault(role, {})[name] = tensor
        else:
            carried[role] = tensor
    return carried


def save(path: Path, carried: dict, facts: dict) -> None:
    """Write `carried` and `facts` (JSON) to `path`, whole or not at all.

    Raises:
        InstallError: the folder takes no file, or the disk is full.
    """
    tensors, integers = flatten(carried)
    tensors = {key: tensor.cpu() for key, tensor in tensors.items()}
    digest = _digest(tensors, integers, facts)
    header = {"integers": integers, "facts": facts, "sha256": digest}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(tensors, temporary, metadata={"cltutor": json.dumps(header)})
        os.replace(temporary, path)
    except (OSError, safetensors.SafetensorError) as error:
        raise InstallError(
            f"cannot write the checkpoint {path} ({error}): free some space or set CLTUTOR_CACHE "
            "to another folder; the same command goes on from the last checkpoint."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def load(path: Path) -> tuple[dict, dict] | None:
    """(carried, facts) of the file `path`; None, with a line on stderr, if it is damaged.

    A damaged file is renamed to end in ".damaged", so that nothing is lost and nothing wrong is
    used.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["cltutor"])
            # Copies: safetensors gives views of the mapped file, which may change or go.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        integers, facts = header["integers"], header["facts"]
        if header["sha256"] != _digest(tensors, integers, facts):
            raise ValueError("its contents do not match its checksum")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        aside = path.with_name(path.name + ".damaged")
        with contextlib.suppress(FileNotFoundError):  # another run was faster
            os.replace(path, aside)
        print(f"checkpoint {path} is damaged ({error}): set aside as {aside.name}", file=sys.stderr)
        return None
    return unflatten(tensors, integers), facts


def fingerprint(carried: dict) -> str:
    """A sha256 of what is carried: equal only where every bit of it is."""
    tensors, integers = flatten(carried)
    return _digest({key: tensor.cpu() for key, tensor in tensors.items()}, integers, {})


def _digest(tensors: dict[str, torch.Tensor], integers: dict[str, int], facts: dict) -> str:
    digest = hashlib.sha256(json.dumps([integers, facts], sort_keys=True).encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
