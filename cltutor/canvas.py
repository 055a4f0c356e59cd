"""Small pictures to segment: digits laid out on a canvas, with a class for every pixel.

Class 0 is the background, class c + 1 the strokes of digit c. `canvases` are plain; `styled` come
in 21 styles, which differ in greys, texture, noise, stroke width and slant as the streets of one
city differ from those of another. All is drawn from a fixed seed: they are data sets, not draws.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CLASS_NAMES = ("background", *"0123456789")
SEED = 0
SIDES = (16, 24, 32)  # of the canvases that have a name
INK = 0.35  # a pixel brighter than this belongs to its digit
TRAIN, TEST = 5000, 300
STYLES, PER_STYLE, TEST_PER_STYLE = 21, 200, 30
TRIES = 20


def canvases(train: tuple, test: tuple, side: int) -> tuple:
    """((x, y), (x, y), 255, names) of 5,000 and 300 canvases: x (N, 1, side, side), y (N, ...).

    Args:
        train, test: (images (N, 1, 8, 8) of 0 to 16, labels (N,)), of which only the own digits
            are drawn.
    """
    rng = np.random.default_rng(SEED)
    sets = []
    for digits, n in ((train, TRAIN), (test, TEST)):
        strokes, maps = lay_out(*digits, n, side, rng)
        noise = torch.from_numpy(rng.normal(0, 0.1, strokes.shape)).float()
        sets.append((_pixels(strokes + noise), maps.numpy()))
    return *sets, 255, CLASS_NAMES


def styled(train: tuple, test: tuple, side: int) -> tuple:
    """As `canvases`, 200 and 30 of each style; the third part of a set is each one's style."""
    rng = np.random.default_rng(SEED)
    sets, styles = [], [style(rng, number) for number in range(STYLES)]
    for digits, n in ((train, PER_STYLE), (test, TEST_PER_STYLE)):
        parts = [paint(*lay_out(*digits, n, side, rng), one, rng) for one in styles]
        x, maps = (torch.cat(each) for each in zip(*parts, strict=True))
        sets.append((_pixels(x), maps.numpy(), np.repeat(np.arange(STYLES), n)))
    return *sets, 255, CLASS_NAMES


def lay_out(x, y, n: int, side: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """n canvases of two to four digits (fewer where they found no place), which do not overlap.

    A digit is 12 pixels wide, or 8 on canvases of less than 24. Returns strokes (n, 1, side, side)
    in [0, 1] and maps (n, side, side) of classes.
    """
    size = 12 if side >= 24 else 8
    large = F.interpolate(torch.from_numpy(x).float() / 16, size, mode="bilinear").clamp(0, 1)
    strokes = torch.zeros(n, 1, side, side)
    maps = torch.zeros(n, side, side, dtype=torch.long)
    for canvas in range(n):
        places: list[np.ndarray] = []
        wanted = rng.integers(2, 4, endpoint=True)
        for place in rng.integers(0, side - size, (TRIES, 2), endpoint=True):
            if len(places) < wanted and all(abs(place - other).max() >= size for other in places):
                places.append(place)
                i = rng.integers(len(y))
                rows, columns = (slice(start, start + size) for start in place)
                strokes[canvas, 0, rows, columns] = large[i, 0]
                maps[canvas, rows, columns] = torch.where(large[i, 0] > INK, int(y[i]) + 1, 0)
    return strokes, maps


def style(rng: np.random.Generator, number: int) -> dict:
    """How the number-th style looks; every third is dark on bright."""
    dark, bright = rng.uniform(0.0, 0.25), rng.uniform(0.65, 1.0)
    return {
        "ground": bright if number % 3 == 2 else dark,
        "ink": dark if number % 3 == 2 else bright,
        "texture": rng.uniform(0.0, 0.2),
        "waves": rng.uniform(-0.8, 0.8, 2),
        "noise": rng.uniform(0.02, 0.15),
        "slant": np.deg2rad(rng.uniform(-15, 15)),
        "bold": bool(rng.integers(2)),
    }


def paint(strokes: Tensor, maps: Tensor, look: dict, rng) -> tuple[Tensor, Tensor]:
    """Canvases in a style: bold and slanted strokes, with their maps, on a ground with waves."""
    n, _, side, _ = strokes.shape
    if look["bold"]:
        strokes = F.max_pool2d(F.pad(strokes, (0, 1, 0, 1)), 2, stride=1)
        wider = F.max_pool2d(F.pad(maps[:, None].float(), (0, 1, 0, 1)), 2, stride=1)
        maps = wider[:, 0].long()
    cos, sin = np.cos(look["slant"]), np.sin(look["slant"])
    turn = torch.tensor([[cos, -sin, 0], [sin, cos, 0]], dtype=torch.float32).expand(n, 2, 3)
    grid = F.affine_grid(turn, strokes.shape, align_corners=False)
    strokes = F.grid_sample(strokes, grid, align_corners=False)
    maps = F.grid_sample(maps[:, None].float(), grid, "nearest", align_corners=False)[:, 0].long()
    places = torch.arange(side)
    phase = look["waves"][0] * places[:, None] + look["waves"][1] * places
    ground = look["ground"] + look["texture"] * torch.sin(phase)
    x = ground + (look["ink"] - ground) * strokes
    return x + torch.from_numpy(rng.normal(0, look["noise"], x.shape)).float(), maps


def _pixels(x: Tensor) -> np.ndarray:
    return (x.clamp(0, 1) * 255).round().byte().numpy()
