"""Data sets that are a folder of images per class, such as Mini-ImageNet; nothing is downloaded."""

from pathlib import Path

import numpy as np

from cltutor.errors import UserError

ENDINGS = (".jpg", ".jpeg", ".png")


def read(name: str, root: Path, size: int, train: int, test: int) -> tuple:
    """((x_train, y_train), (x_test, y_test), 255, class names) of root/NAME/CLASS/*.jpg.

    Classes and files are taken in the order of their names: the first `train` images of a class and
    the `test` behind them. An image is scaled to `size` on its shorter side and cut square from its
    middle. uint8 (N, 3, size, size); y (N,) numbers the classes.

    Raises:
        UserError: the folder is not there, a class has too few images, or a file is no image.
    """
    folder = root / name
    classes = sorted(path for path in folder.glob("*") if path.is_dir())
    if not classes:
        raise UserError(
            f"{name} is not in {root}: it cannot be downloaded. Put a folder of images per class "
            f"into {folder}, or name the folder that has {name} in CLTUTOR_DATA. "
            "The profile quick needs no data of yours."
        )
    parts = ([], [])
    for one in classes:
        files = sorted(path for path in one.iterdir() if path.suffix.lower() in ENDINGS)
        if len(files) < train + test:
            raise UserError(f"{one} has {len(files)} images, and {train + test} are needed.")
        images = np.stack([picture(path, (size, size)) for path in files[: train + test]])
        parts[0].append(images[:train])
        parts[1].append(images[train:])
    sides = [
        (np.concatenate(part), np.repeat(np.arange(len(classes)), n))
        for part, n in zip(parts, (train, test), strict=True)
    ]
    return *sides, 255, tuple(one.name for one in classes)


def picture(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(3, height, width) uint8 in colours, `size` being (width, height)."""
    return fitted(path, size, "RGB").transpose(2, 0, 1)


def fitted(path: Path, size: tuple[int, int], mode: str | None) -> np.ndarray:
    """An image scaled and cut to `size` (width, height), (height, width, ...) uint8.

    In PIL's `mode`; None takes the file's own numbers, and none is mixed of two.

    Raises:
        UserError: the file is no image.
    """
    from PIL import Image, ImageOps

    how = Image.Resampling.BICUBIC if mode else Image.Resampling.NEAREST
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.fit(image.convert(mode) if mode else image, size, how))
    except OSError:
        raise UserError(
            f"{path} is no image that can be read: delete it or get it again."
        ) from None
