"""Generic figures. Each returns a `Picture`: figure, words and numbers; `show` displays it.

Nothing here imports pyplot or Jupyter, and no global setting of matplotlib is changed.
"""

from cltutor.figures.grids import heatmaps, images
from cltutor.figures.plots import bars, curves
from cltutor.figures.scatter import scatter
from cltutor.figures.show import Picture, as_html, as_png, save, show, table
from cltutor.figures.source import difference, source

__all__ = [
    "Picture",
    "as_html",
    "as_png",
    "bars",
    "curves",
    "difference",
    "heatmaps",
    "images",
    "save",
    "scatter",
    "show",
    "source",
    "table",
]
