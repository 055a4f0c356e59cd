"""Pascal VOC 2012 and Cityscapes, read from the folders that a user has; nothing is downloaded."""

from pathlib import Path

import numpy as np

from cltutor.errors import UserError
from cltutor.imagefolder import fitted, picture

VOC_NAMES = tuple(
    "background,aeroplane,bicycle,bird,boat,bottle,bus,car,cat,chair,cow,dining table,dog,horse,"
    "motorbike,person,potted plant,sheep,sofa,train,tv monitor".split(",")
)
CITYSCAPES_NAMES = tuple(
    "road,sidewalk,building,wall,fence,pole,traffic light,traffic sign,vegetation,terrain,sky,"
    "person,rider,car,truck,bus,train,motorcycle,bicycle".split(",")
)
# Cityscapes' ids of these 19 classes, in their order; pixels of any other are ignored.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
IGNORE = -100  # what torch's cross-entropy leaves out


def voc(root: Path, side: int) -> tuple:
    """((x, y), (x, y), 255, names) of root/VOCdevkit/VOC2012: its lists train.txt and val.txt.

    An image is scaled to `side` on its shorter side and cut square from its middle: x uint8
    (N, 3, side, side), y int64 (N, side, side), IGNORE on the borders of objects.

    Raises:
        UserError: the folder or one of its files is not there, or a file is no image.
    """
    folder = root / "VOCdevkit" / "VOC2012"
    sets = []
    for name in ("train", "val"):
        listed = folder / "ImageSets" / "Segmentation" / f"{name}.txt"
        if not listed.is_file():
            raise _missing("Pascal VOC 2012", listed, folder)
        images = listed.read_text(encoding="utf-8").split()
        pictures = [_there(folder / "JPEGImages" / f"{one}.jpg") for one in images]
        truths = [_there(folder / "SegmentationClass" / f"{one}.png") for one in images]
        x = [picture(path, (side, side)) for path in pictures]
        y = [fitted(path, (side, side), None) for path in truths]
        ids = np.stack(y).astype(np.int64)
        sets.append((np.stack(x), np.where(ids < len(VOC_NAMES), ids, IGNORE)))
    return *sets, 255, VOC_NAMES


def cityscapes(root: Path, height: int) -> tuple:
    """The 21 labelled cities below root/cityscapes/{leftImg8bit,gtFine}/{train,val}/CITY.

    As `voc`, with images of height x 2 height; the third part of a set is the number of each
    image's city, in the order of their names. Of every city each fifth image is for testing.

    Raises:
        UserError: the folder or one of its files is not there, a file is no image, or a city has
            fewer than five.
    """
    folder = root / "cityscapes"
    cities = sorted(folder.glob("leftImg8bit/train/*")) + sorted(folder.glob("leftImg8bit/val/*"))
    if not cities:
        raise _missing("Cityscapes", folder / "leftImg8bit", folder)
    train_id = np.full(256, IGNORE)
    train_id[list(CITYSCAPES_IDS)] = range(len(CITYSCAPES_IDS))
    size, parts = (2 * height, height), ([], [])
    for number, city in enumerate(cities):
        truth = folder / "gtFine" / city.parent.name / city.name
        images = sorted(city.glob("*_leftImg8bit.png"))
        if len(images) < 5:
            raise UserError(f"{city} has {len(images)} images, and at least 5 are needed.")
        for i, path in enumerate(images):
            ids = _there(truth / path.name.replace("_leftImg8bit", "_gtFine_labelIds"))
            y = train_id[fitted(ids, size, None)]
            parts[i % 5 == 4].append((picture(path, size), y, number))
    sets = [tuple(map(np.stack, zip(*part, strict=True))) for part in parts]
    return *sets, 255, CITYSCAPES_NAMES


def _there(path: Path) -> Path:
    """The path. Raises UserError if there is no such file."""
    if not path.is_file():
        raise _missing(path.name, path, path.parent)
    return path


def _missing(what: str, path: Path, folder: Path) -> UserError:
    return UserError(
        f"{what} is not here: there is no {path}, and it cannot be downloaded. Unpack the data set "
        f"into {folder}, or name the folder above it in CLTUTOR_DATA. The profile quick needs none."
    )
