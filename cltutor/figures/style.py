"""How every figure looks: colours that differ for colour-blind readers, sizes, page furniture.

Figures are matplotlib `Figure` objects without pyplot, and rcParams are changed only while one is
made or drawn, in one thread at a time. Text is 9 points or more at a notebook's width.
"""

import math
import textwrap
import threading
from contextlib import contextmanager

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from cltutor.errors import UserError

# At least 4.5 : 1 on white, the ratio that text needs; neighbours differ in lightness, too, for
# readers who see no hue. Markers and dashes repeat the distinction without colour.
PALETTE = ("#0072B2", "#C04F00", "#007A5A", "#A64D79", "#5B3A9B", "#7A6200", "#2B2B2B", "#6E6E6E")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", (0, (6, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (9, 3)), (0, (3, 3)))
INK, MUTED, EMPTY = "#222222", "#595959", "#D9D9D9"

_drawing = threading.RLock()
WIDTH = 7.6  # inches: 836 pixels at DPI, about the width of a notebook's output area
DPI = 110
RC = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": "#888888",
    "ytick.color": "#888888",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.8,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextmanager
def styled():
    """Context in which figures are made and drawn; the caller's rcParams come back after it.

    Others wait: rcParams belong to all threads, and a panel's button may be answered in its own.
    """
    with _drawing, matplotlib.rc_context(RC):
        yield


def new_figure(height: float, width: float = WIDTH, layout: str | None = "constrained") -> Figure:
    """An empty figure, in inches; its layout makes room for every label, None leaves it alone."""
    return Figure(figsize=(width, height), dpi=DPI, layout=layout)


def freeze(figure: Figure) -> None:
    """Lay the figure out now and keep that, so that drawing it twice gives the same pixels."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def wrap(text: str, width: int) -> str:
    """`text` in lines of at most `width` characters, never cut inside a word."""
    return textwrap.fill(text, width, break_long_words=False)


def numbers(values: ArrayLike, name: str) -> np.ndarray:
    """`values` as a float array; UserError, which calls them `name`, where they are not numbers."""
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise UserError(f"{name} must be numbers, in rows of equal length") from None


def readable(value) -> str:
    """A number or name as text: three decimals below 10, fewer above, NaN and None as words."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value != value:
        return "not measured"
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)
    size = abs(value)
    if math.isinf(value) or 0 < size < 0.0005:
        return f"{value:.1e}"
    return f"{value:.3f}" if size < 10 else f"{value:.1f}" if size < 1000 else f"{value:,.0f}"


def luminance(colour) -> float:
    """Relative luminance of an sRGB colour, 0 (black) to 1 (white). WCAG 2.2."""
    channels = matplotlib.colors.to_rgb(colour)
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a, b) -> float:
    """Contrast ratio of two colours, 1 to 21; WCAG asks 4.5 for text and 3 for graphics."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def ink_on(colour) -> str:
    """Black or white, whichever reads better on `colour`; the ratio is never below 4.5."""
    return max(("black", "white"), key=lambda ink: contrast(ink, colour))
