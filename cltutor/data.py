"""Named data sets as uint8 tensors, each file checked before it is used.

"digits" ships with the kit. MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 are read from the data
root (`CLTUTOR_DATA`, else `data` in the cache folder) and downloaded into it if they are missing,
Mini-ImageNet only read (imagefolder.py). Origins, licences and layouts are in `data/README.md`.
"""

import contextlib
import gzip
import hashlib
import io
import os
import shutil
import socket
import struct
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache, partial
from http.client import HTTPException
from pathlib import Path

import numpy as np
import platformdirs
import torch
from torch import Tensor
from torch.nn import functional as F

from cltutor import canvas, imagefolder, mapfolder
from cltutor.checksums import CIFAR100_SHA256, IDX_MD5
from cltutor.errors import InstallError, UserError
from cltutor.shipped import data_dir, embedded
from cltutor.shipped import verify as verify

DIGIT_NAMES = tuple("0123456789")
FASHION_NAMES = ("T-shirt/top", "trouser", "pullover", "dress", "coat",
                 "sandal", "shirt", "sneaker", "bag", "ankle boot")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Dataset:
    """One data set in memory.

    `x_train`, `x_test`: uint8 (N, C, H, W), 0 to `levels` (the pixel value that means 1.0).
    `y_train`, `y_test`: int64 (N,), indices into `class_names`, or (N, H, W), one for each pixel,
    -100 where none counts. `checksum`: sha256 over the arrays. `domain_train`, `domain_test`: int64
    (N,), the style or city of each image, where the data set tells.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    levels: int
    class_names: tuple[str, ...]
    checksum: str
    domain_train: Tensor | None = None
    domain_test: Tensor | None = None


def load(name: str, root: str | os.PathLike | None = None) -> Dataset:
    """The data set `name`: one of `_READERS`, "mnist14" being MNIST at 14x14 pixels.

    `root` is where all but "digits" are looked for, and downloaded to where that is possible; by
    default `data_root()`. Raises UserError: an unknown name, an altered file, a failed download.
    """
    if name not in _READERS:
        raise UserError(f"unknown data set {name!r}: choose one of {', '.join(_READERS)}")
    return _load(name, data_dir() if name == "digits" else Path(root or data_root()).absolute())


def cache_dir() -> Path:
    """The folder for what can be made again: `CLTUTOR_CACHE`, else the user's cache folder."""
    return Path(os.environ.get("CLTUTOR_CACHE") or platformdirs.user_cache_dir("cltutor"))


def data_root() -> Path:
    """The folder of downloaded data sets, possibly read-only: `CLTUTOR_DATA`, else in the cache."""
    return Path(os.environ.get("CLTUTOR_DATA") or cache_dir() / "data")


@lru_cache(maxsize=2)
def _load(name: str, folder: Path) -> Dataset:
    (x_train, y_train, *domains), (x_test, y_test, *others), levels, names = _READERS[name](folder)
    arrays = [np.ascontiguousarray(x_train), y_train.astype(np.int64),
              np.ascontiguousarray(x_test), y_test.astype(np.int64)]  # fmt: skip
    arrays += [each.astype(np.int64) for each in (*domains, *others)]
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array)
    tensors = [torch.from_numpy(array) for array in arrays]
    return Dataset(name, *tensors[:4], levels, tuple(names), digest.hexdigest(), *tensors[4:])


def _read_digits(folder: Path):
    with np.load(io.BytesIO(embedded("digits.npz", folder)), allow_pickle=False) as file:
        x, y, test = file["x"][:, None], file["y"], file["test"]
    train = np.setdiff1d(np.arange(len(y)), test)
    return (x[train], y[train]), (x[test], y[test]), 16, DIGIT_NAMES


def _drawn(draw, side: int, folder: Path):
    """Canvases of the embedded digits (canvas.py)."""
    train, test, _, _ = _read_digits(data_dir())
    return draw(train, test, side)


def _read_idx(family: str, class_names: tuple[str, ...], root: Path):
    """MNIST's layout: IDX files, packed or not."""
    raw, files = root / family / "raw", IDX_MD5[family]
    if not all((raw / name).exists() or (raw / f"{name}.gz").exists() for name in files):
        _download(family, root, f"{family}/raw", files)
    arrays = []
    for name, md5 in files.items():
        path = raw / name if (raw / name).exists() else raw / f"{name}.gz"
        try:
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise _altered(path) from None
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise _altered(path)
        # IDX: two zero bytes, the type, the rank, the sizes (big-endian), the data.
        start = 4 + 4 * content[3]
        shape = struct.unpack(f">{content[3]}I", content[4:start])
        arrays.append(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())
    x_train, y_train, x_test, y_test = arrays
    return (x_train[:, None], y_train), (x_test[:, None], y_test), 255, class_names


def _read_cifar100(root: Path):
    packed = root / "cifar100" / "cifar100.npz"
    return _read_webp(packed) if packed.exists() else _read_cifar("CIFAR100", root)


def _read_cifar(family: str, root: Path):
    """torchvision's copy. It unpickles; every file is checked by md5 first."""
    source = getattr(_torchvision(), family)
    folder = root / source.base_folder
    files = [*source.train_list, *source.test_list, [source.meta["filename"], source.meta["md5"]]]
    if not all((folder / name).exists() for name, _ in files):
        _download(family, root, source.base_folder, [name for name, _ in files])
    for name, md5 in files:
        content = (folder / name).read_bytes()
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise _altered(folder / name)
    train, test = source(root, train=True), source(root, train=False)
    splits = [(s.data.transpose(0, 3, 1, 2), np.array(s.targets)) for s in (train, test)]
    return *splits, 255, train.classes


def _read_webp(path: Path):
    """CIFAR-100 from lossless WebP strips, ordered by class (the layout is in data/README.md)."""
    from PIL import Image

    splits = []
    try:
        with np.load(path, allow_pickle=False) as file:
            names = [str(name) for name in file["fine_names"]]
            for split, expected in CIFAR100_SHA256.items():
                y, lengths = file[f"{split}_labels"], file[f"{split}_len"]
                stream = io.BytesIO(file[f"{split}_webp"].tobytes())
                strips = [Image.open(io.BytesIO(stream.read(int(n)))) for n in lengths]
                by_class = [np.asarray(s.convert("RGB")).reshape(-1, 32, 32, 3) for s in strips]
                x = np.empty((len(y), 32, 32, 3), np.uint8)
                x[np.argsort(y, kind="stable")] = np.concatenate(by_class)
                if hashlib.sha256(x).hexdigest() != expected:
                    raise _altered(path)
                splits.append((x.transpose(0, 3, 1, 2), y))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        raise _altered(path) from None
    return *splits, 255, names


def _resized(side: int, read, root: Path):
    """Another data set at `side` x `side` pixels: means of areas, or, larger, interpolated."""
    (*sets, levels, names), how = read(root), dict(mode="area" if side < 28 else "bilinear")
    for i, (x, y) in enumerate(sets):
        sets[i] = F.interpolate(torch.from_numpy(x).float(), side, **how).round().byte().numpy(), y
    return *sets, levels, names


_READERS = {
    "digits": _read_digits,
    "mnist": partial(_read_idx, "MNIST", DIGIT_NAMES),
    "fashion": partial(_read_idx, "FashionMNIST", FASHION_NAMES),
    "cifar10": partial(_read_cifar, "CIFAR10"),
    "cifar100": _read_cifar100,
    "miniimagenet": partial(imagefolder.read, "miniimagenet", size=84, train=500, test=100),
    "voc2012": partial(mapfolder.voc, side=96),
    "cityscapes": partial(mapfolder.cityscapes, height=64),
}
for _side in canvas.SIDES:
    _READERS[f"canvas{_side}"] = partial(_drawn, canvas.canvases, _side)
    _READERS[f"styled{_side}"] = partial(_drawn, canvas.styled, _side)
_SIDES = (("mnist", 14), ("fashion", 14), ("fashion", 32))
_READERS |= {f"{name}{side}": partial(_resized, side, _READERS[name]) for name, side in _SIDES}


def _torchvision():
    try:
        import torchvision.datasets as sources
    except (ImportError, RuntimeError) as error:
        raise InstallError(
            f"torchvision does not import ({error}): install the version that matches "
            f"torch {torch.__version__}, as in requirements.lock"
        ) from error
    return sources


def _download(family: str, root: Path, folder: str, files) -> None:
    """torchvision's download into a temporary root, then each file moved into place at once.

    So two processes that download into the same root only do the work twice.
    """
    source = getattr(_torchvision(), family)
    before = socket.getdefaulttimeout()
    temporary = None
    try:
        socket.setdefaulttimeout(30)  # torchvision waits for ever
        root.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".download-", dir=root))
        with contextlib.redirect_stdout(sys.stderr):
            source(temporary, train=False, download=True)
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in files:
            os.replace(temporary / folder / name, root / folder / name)
    except (OSError, RuntimeError, HTTPException) as error:
        tried = " and ".join(getattr(source, "mirrors", None) or [source.url])
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{family} is not in {root} and could not be downloaded from {tried} ({reason}). "
            f"The profile quick needs no download. Else put {', '.join(files)} into "
            f"{root / folder}, or name the folder that has {folder} in CLTUTOR_DATA"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def _altered(path: Path) -> UserError:
    return UserError(f"{path} is altered or incomplete: delete it and run again")
