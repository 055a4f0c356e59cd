"""Figures that are grids: accuracy matrices as heat maps, and images in rows and columns."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from cltutor.errors import UserError
from cltutor.figures.show import Picture
from cltutor.figures.style import (
    DPI,
    EMPTY,
    MUTED,
    WIDTH,
    ink_on,
    new_figure,
    numbers,
    styled,
    wrap,
)

_MAP = matplotlib.colormaps["viridis"]
_NARROW, _CELL = 0.28, 0.5  # inches: the smallest cell that holds ".99", and a comfortable one
_IMAGE = 0.62  # inches: the side of an image where the page has room


def _number(value: float, cell: float) -> str:
    text = f"{value:.2f}"
    if cell >= 0.36:
        return text
    return "1.0" if text == "1.00" else text.lstrip("0")


def heatmaps(
    matrices: Mapping[str, ArrayLike],
    *,
    value: str = "accuracy",
    xlabel: str | None = None,
    ylabel: str = "after experience i",
    alt: str | None = None,
) -> Picture:
    """Matrices (rows, columns) in [0, 1] side by side on one colour scale from 0 to 1.

    `matrices`: title -> matrix, all of one shape; row i is read as "after experience i", column j
    as "`value` on experience j" unless `xlabel` says otherwise. NaN cells are grey and hatched.
    Numbers: (title, i, one number per column). Raises UserError for other shapes and ranges.
    """
    arrays = {title: numbers(R, title) for title, R in matrices.items()}
    shapes = {R.shape for R in arrays.values()}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 2 or 0 in shape:
        raise UserError("heatmaps needs one or more matrices of one shape (rows, columns)")
    if any(np.any((R < -1e-6) | (R > 1 + 1e-6)) for R in arrays.values()):
        raise UserError("heatmaps shows values in [0, 1]; divide percentages by 100")
    n_rows, n_columns = shape
    xlabel = xlabel or f"{value} on experience j"
    with styled():
        figure = _lay_out(arrays, value, xlabel, ylabel)
    rows = tuple(
        (title, i, *map(float, R[i])) for title, R in arrays.items() for i in range(n_rows)
    )
    return Picture(
        figure,
        alt or _describe(arrays, value, xlabel, ylabel),
        ("matrix", ylabel, *(f"j = {j}" for j in range(n_columns))),
        rows,
    )


def _lay_out(arrays: Mapping[str, np.ndarray], value: str, xlabel: str, ylabel: str) -> Figure:
    """Every length in inches, so that cells are square and as large as the page allows."""
    n_rows, n_columns = next(iter(arrays.values())).shape
    left, right, bottom, seam = 0.6, 0.8, 0.58, 0.16
    room = WIDTH - left - right + seam
    down = -(-len(arrays) // max(1, int(room // (n_columns * _NARROW + seam))))
    across = -(-len(arrays) // down)
    cell = min(_CELL, (room / across - seam) / n_columns)
    wide, high = n_columns * cell, n_rows * cell
    titles = [wrap(title, max(10, int(wide * 11))) for title in arrays]
    head = 0.12 + 0.18 * max(title.count("\n") + 1 for title in titles)
    ylabel = wrap(ylabel, max(10, int(down * high * 13)))
    left += 0.18 * ylabel.count("\n")
    step_x, step_y = wide + seam, high + head + 0.28
    width = left + across * step_x - seam + right
    height = bottom + down * step_y - 0.28
    figure = new_figure(height, width, layout=None)

    def place(x: float, y: float, w: float, h: float):
        return figure.add_axes((x / width, y / height, w / width, h / height))

    for n, (title, R) in enumerate(zip(titles, arrays.values(), strict=True)):
        row, column = divmod(n, across)
        axes = place(left + column * step_x, bottom + (down - 1 - row) * step_y, wide, high)
        _heatmap(axes, R, cell)
        axes.set_title(title)
        axes.tick_params(labelleft=column == 0)
    span_x, span_y = width - left - right, height - bottom - head
    scale = matplotlib.cm.ScalarMappable(Normalize(0, 1), _MAP)
    bar = figure.colorbar(scale, cax=place(width - right + 0.12, bottom, 0.14, span_y))
    bar.set_label(value)
    bar.outline.set_visible(False)
    centre = (left + span_x / 2) / width, (bottom + span_y / 2) / height
    figure.text(centre[0], 0.34 / height, xlabel, ha="center", va="top")
    figure.text((left - 0.28) / width, centre[1], ylabel, rotation=90, ha="right", va="center")
    return figure


def _heatmap(axes, R: np.ndarray, cell: float) -> None:
    axes.imshow(np.ma.masked_invalid(R), cmap=_MAP, vmin=0, vmax=1, aspect="equal")
    for (i, j), entry in np.ndenumerate(R):
        if np.isnan(entry):
            box = Rectangle((j - 0.5, i - 0.5), 1, 1, fc=EMPTY, ec=MUTED, hatch="///", lw=0)
            axes.add_patch(box)
        else:
            colour = ink_on(_MAP(entry))
            axes.text(j, i, _number(entry, cell), ha="center", va="center", color=colour, size=9)
    axes.set_xticks(range(R.shape[1]))
    axes.set_yticks(range(R.shape[0]))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    # White seams keep neighbouring cells of one colour apart.
    axes.set_xticks(np.arange(R.shape[1] - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(R.shape[0] - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="minor", length=0)


def _describe(arrays: Mapping[str, np.ndarray], value: str, xlabel: str, ylabel: str) -> str:
    parts = [f"Heat maps of {value} from 0 to 1, {ylabel} (rows), {xlabel} (columns)."]
    for title, R in arrays.items():
        last = ", ".join("not measured" if np.isnan(x) else f"{x:.2f}" for x in R[-1])
        part = f"{title}: last row {last}"
        if np.isfinite(R[-1]).all():
            part += f", mean {R[-1].mean():.2f}"
        if R.shape[0] == R.shape[1] and np.isfinite(R.diagonal()).any():
            part += f"; mean of the diagonal {np.nanmean(R.diagonal()):.2f}"
        parts.append(f"{part}.")
    return " ".join(parts)


def images(
    grid: ArrayLike,
    row_labels: Sequence[str] | None = None,
    col_labels: Sequence[str] | None = None,
    *,
    alt: str | None = None,
) -> Picture:
    """Images in rows and columns: (rows, cols, H, W), or (rows, cols, C, H, W) with C 1 or 3.

    Values in [0, 1], 0 black; an image with NaN is left grey. Labels stand at the left and on top.
    `alt` should say what the images show, which no program can; without it the layout is told.
    Raises UserError for other shapes and ranges, and for labels that do not match.
    """
    pixels = numbers(grid, "images")
    if pixels.ndim == 4:
        pixels = pixels[:, :, None]
    if pixels.ndim != 5 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        raise UserError(f"images needs (rows, cols, [1 or 3,] H, W); got {np.shape(grid)}")
    if np.any((pixels < -1e-6) | (pixels > 1 + 1e-6)):
        raise UserError("images shows values in [0, 1]; undo any normalisation first")
    rows, cols, _, height, width = pixels.shape
    for labels, n, name in ((row_labels, rows, "row_labels"), (col_labels, cols, "col_labels")):
        if labels is not None and len(labels) != n:
            raise UserError(f"{name} has {len(labels)} entries for {n}")
    gap = max(1, round(min(height, width) / 12))
    mosaic = np.ones((rows * (height + gap) - gap, cols * (width + gap) - gap, 3))
    for i, j in np.ndindex(rows, cols):
        tile = np.moveaxis(pixels[i, j], 0, -1)
        missing = matplotlib.colors.to_rgb(EMPTY)
        top, left = i * (height + gap), j * (width + gap)
        mosaic[top : top + height, left : left + width] = missing if np.isnan(tile).any() else tile
    with styled():
        figure = new_figure(1.0, layout=None)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(np.clip(mosaic, 0, 1), interpolation="nearest", aspect="auto")
        centres = np.arange(max(rows, cols))
        axes.set_xticks(centres[:cols] * (width + gap) + (width - 1) / 2)
        axes.set_yticks(centres[:rows] * (height + gap) + (height - 1) / 2)
        letters = int(_IMAGE * 12 * min(1, WIDTH / (cols * _IMAGE)))
        axes.set_xticklabels([wrap(str(label), letters) for label in col_labels or [""] * cols])
        axes.set_yticklabels([wrap(str(label), 24) for label in row_labels or [""] * rows])
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
        _fit(figure, axes, mosaic.shape, _IMAGE * cols)
    if alt is None:
        alt = f"Grid of images, {rows} rows by {cols} columns, {height} by {width} pixels each."
        if row_labels:
            alt += f" Rows: {', '.join(map(str, row_labels))}."
        if col_labels:
            alt += f" Columns: {', '.join(map(str, col_labels))}."
        if np.isnan(pixels).any():
            alt += " Grey squares stand where there is no image."
    return Picture(figure, alt)


def _fit(figure, axes, shape: tuple[int, ...], width: float) -> None:
    """Give an image axes a whole number of screen pixels per pixel, `width` inches or less."""
    figure.draw_without_rendering()
    outer, inner, pad = axes.get_tightbbox(), axes.bbox, 4
    left, top = np.ceil([inner.x0 - outer.x0, outer.y1 - inner.y1]) + pad
    zoom = max(1, int(min(width * DPI, WIDTH * DPI - left - pad) / shape[1]))
    across, down = shape[1] * zoom, shape[0] * zoom
    total = np.array([left + across + pad, top + down + pad])
    figure.set_size_inches(total / DPI)
    axes.set_position((left / total[0], pad / total[1], across / total[0], down / total[1]))
