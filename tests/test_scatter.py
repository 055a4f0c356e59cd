"""figures.scatter: its numbers and words, names that cover nothing, and what it refuses."""

import itertools

import numpy as np
import pytest

from cltutor import figures
from cltutor.errors import UserError
from cltutor.figures.scatter import _cover

KINDS = {
    "images": {"ten": (1e3, [0.6, 0.7, 0.8]), "all": (1e5, 0.97)},
    "nothing": {"none": (7e4, 0.2)},
}


def draw(kinds=KINDS, **options):
    return figures.scatter(kinds, xlabel="bytes", ylabel="ACC", **{"log_x": True} | options)


def test_numbers_and_words():
    picture = draw(front=["ten", "all"])
    assert picture.columns[:4] == ("", "kind", "bytes", "ACC")
    ten, every, none = picture.rows
    # Mean 0.7, s = 0.1, t(2) = 4.303: half width 4.303 * 0.1 / sqrt(3) = 0.248.
    assert ten[:4] == ("ten", "images", 1e3, pytest.approx(0.7))
    assert ten[4] == pytest.approx(0.248, abs=1e-3) and ten[5] == 3
    assert every[3] == 0.97 and np.isnan(every[4]) and none[1] == "nothing"
    assert "none (nothing) at 70,000: 0.200" in picture.alt
    assert picture.alt.endswith("A line joins ten, all.")
    assert "A line joins" not in draw().alt and draw(alt="words").alt == "words"


def test_the_front_is_a_stepped_line_in_the_order_of_x():
    (axes,) = draw(front=["all", "ten"]).figure.axes
    (line,) = [one for one in axes.lines if one.get_drawstyle() == "steps-post"]
    assert line.get_xdata().tolist() == [1e3, 1e5]


def test_names_cover_no_other_name_and_stay_inside():
    """Twelve methods of nearly the same cost and accuracy, as on split digits."""
    crowd = {f"method {n}": (7e4 * 1.05**n, 0.2 + 0.002 * n) for n in range(12)}
    figure = draw({"all": crowd}).figure
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 12
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(axes.bbox.contains(*corner) for box in boxes for corner in box.corners())


def test_names_stand_beside_the_front():
    figure = draw(front=["ten", "all"]).figure
    figure.draw_without_rendering()
    (axes,) = figure.axes
    (line,) = [one for one in axes.lines if one.get_drawstyle() == "steps-post"]
    path = line.get_path().transformed(line.get_transform())
    level = path.vertices[0][1]
    (ten,) = [text for text in axes.texts if text.get_text() == "ten"]
    box = ten.get_window_extent()
    assert box.y0 > level or box.y1 < level or box.x1 < path.vertices[0][0]


def test_what_is_covered_is_counted():
    edges = (0, 0, 10, 10)
    assert _cover((1, 1, 3, 3), [(2, 2, 5, 5)], edges) == 1
    assert _cover((1, 1, 3, 3), [(4, 4, 5, 5)], edges) == 0
    assert _cover((9, 1, 11, 3), [], edges) == 2


@pytest.mark.parametrize(
    ("kinds", "options", "words"),
    [
        ({}, {}, "needs points"),
        ({"a": {"x": (1, 1)}, "b": {"x": (1, 1)}}, {}, "each label once"),
        ({str(n): {str(n): (1, 1)} for n in range(9)}, {}, "1 to 8 kinds"),
        ({"a": {"x": (0, 1)}}, {}, "above 0"),
        (KINDS, {"front": ["ten", "eleven"]}, "no point: eleven"),
        ({"a": {"x": (1, "many")}}, {}, "must be numbers"),
    ],
)
def test_refused(kinds, options, words):
    with pytest.raises(UserError, match=words):
        draw(kinds, **options)
    if "above 0" in words:
        draw(kinds, log_x=False)
