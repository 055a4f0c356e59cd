"""Figures return their numbers, describe themselves, escape what they show and look the same."""

import io
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from cltutor import figures
from cltutor.errors import UserError
from cltutor.figures import style
from cltutor.methods import finetune, lwf

R = np.array([[0.98, 0.0, 0.0], [0.61, 0.97, 0.0], [0.43, 0.72, 0.96]])
NASTY = "<b>\"GR\" & 'None'</b>"


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(figures.as_png(picture))).convert("RGB")).astype(int)


def one_of_each():
    rng = np.random.default_rng(0)
    runs = np.linspace(0.9, 0.5, 4) + 0.05 * rng.standard_normal((5, 4))
    return {
        "heatmaps": figures.heatmaps({"None": R, "GR": R}),
        "curves": figures.curves({"GR": runs}, xlabel="k", ylabel="accuracy", hlines={"low": 0.1}),
        "bars": figures.bars(
            {"None": 0.2, "GR": [0.8, 0.82, 0.84]}, xlabel="accuracy", vlines={"published": 0.9}
        ),
        "images": figures.images(rng.random((2, 3, 8, 8)), ["real", "dream"]),
    }


def test_heatmaps_return_and_describe_their_numbers():
    picture = figures.heatmaps({"None": R, "GR": R / 2})
    assert picture.columns == ("matrix", "after experience i", "j = 0", "j = 1", "j = 2")
    assert len(picture.rows) == 6
    assert picture.rows[1] == ("None", 1, 0.61, 0.97, 0.0)
    assert picture.rows[5] == ("GR", 2, 0.215, 0.36, 0.48)
    assert "accuracy on experience j" in picture.alt
    # (0.43 + 0.72 + 0.96) / 3 and (0.98 + 0.97 + 0.96) / 3
    assert "None: last row 0.43, 0.72, 0.96, mean 0.70; mean of the diagonal 0.97." in picture.alt


def test_heatmaps_share_one_scale_from_0_to_1():
    picture = figures.heatmaps({"None": R / 10, "GR": R})
    limits = [axes.images[0].get_clim() for axes in picture.figure.axes if axes.images]
    assert limits == [(0, 1), (0, 1)]


def test_quantised_cells_keep_their_colour():
    values = np.linspace(0, 1, 25).reshape(5, 5)
    picture = figures.heatmaps({"all colours": values})
    shown = pixels(picture)
    axes = picture.figure.axes[0]
    for (i, j), value in np.ndenumerate(values):
        # Beside the upper edge of the cell, clear of its number and its seam.
        x, y = axes.transData.transform((j, i - 0.35))
        wanted = 255 * np.array(matplotlib.colormaps["viridis"](value)[:3])
        assert abs(shown[len(shown) - int(y), int(x)] - wanted).max() <= 12, (i, j)


def test_numbers_in_cells_are_readable_on_every_colour():
    for value in np.linspace(0, 1, 101):
        colour = matplotlib.colormaps["viridis"](value)
        assert style.contrast(style.ink_on(colour), colour) >= 4.5


def test_missing_entries_are_marked_and_said():
    excluded = R.copy()
    excluded[1:] = np.nan
    picture = figures.heatmaps({"without 1": excluded})
    axes = picture.figure.axes[0]
    assert len(axes.patches) == 6 and all(patch.get_hatch() for patch in axes.patches)
    assert len(axes.texts) == 3
    assert "last row not measured, not measured, not measured; mean" in picture.alt
    html = figures.as_html(picture)
    assert html.count("<td>not measured</td>") == 6 and "nan" not in html.split("base64")[0]

    gap = figures.curves({"GR": [0.9, np.nan, 0.7], "None": [np.nan] * 3}, xlabel="k", ylabel="a")
    assert "GR: from 0.900 at 0 to 0.700 at 2" in gap.alt and "None: not measured." in gap.alt
    bars = figures.bars({"None": [np.nan, 0.1], "GR": 0.5}, xlabel="a")
    assert bars.alt == "Bars of a: None not measured; GR 0.500."
    assert [text.get_text() for text in bars.figure.axes[0].texts] == ["not measured", "0.500"]


def test_curves_return_mean_and_interval():
    runs = [[0.9, 0.80], [0.9, 0.82], [0.9, 0.84]]
    picture = figures.curves(
        {"GR": runs, "None": [0.9, 0.2]},
        [0, 10],
        xlabel="step",
        ylabel="accuracy",
        hlines={"c": 0.1},
    )
    assert picture.columns == ("step", "GR", "GR, half width of the 95 % interval", "None", "c")
    # t(2) = 4.302653, s = 0.02, so 4.302653 * 0.02 / sqrt(3) = 0.049683
    assert picture.rows[1] == pytest.approx((10, 0.82, 0.049683, 0.2, 0.1), abs=1e-6)
    assert "GR: from 0.900 at 0 to 0.820 at 10 ± 0.050 (mean of 3 runs" in picture.alt
    assert "Line at 0.100: c." in picture.alt
    band = picture.figure.axes[0].collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == pytest.approx((0.82 - 0.049683, 0.9), abs=1e-5)


@pytest.mark.parametrize("end", [0.99, 0.02])
def test_names_of_curves_do_not_overlap(end):
    series = {f"method {n} with a long name": [0.9, end - n / 1000] for n in range(7)}
    picture = figures.curves(series, xlabel="k", ylabel="a", ylim=(0, 1), hlines={"chance": 0.01})
    texts = picture.figure.axes[0].texts
    # The text alone: an annotation's own extent includes its leading line.
    extents = [matplotlib.text.Text.get_window_extent(t) for t in texts]
    boxes = sorted((box.y0, box.y1) for box in extents)
    assert len(boxes) == 8
    assert all(upper[0] >= lower[1] for lower, upper in zip(boxes, boxes[1:], strict=False))
    order = [texts[n].get_text() for n in np.argsort([box.y0 for box in extents])]
    assert order[0] == "chance" and order[-1].startswith("method 0")
    assert order[1].startswith("method 6")
    axes = picture.figure.axes[0].bbox
    assert axes.y0 - 3 <= boxes[0][0] and boxes[-1][1] <= axes.y1 + 3


def test_a_logarithmic_axis_has_a_tick_at_every_x():
    picture = figures.curves(
        {"a": [0.1, 0.5, 0.9]}, [10, 50, 500], xlabel="n", ylabel="a", log_x=True
    )
    axes = picture.figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["10", "50", "500"]
    left, middle, right = axes.transData.transform([(10, 0), (50, 0), (500, 0)])[:, 0]
    assert (middle - left) / (right - left) == pytest.approx(np.log(5) / np.log(50))
    with pytest.raises(UserError, match="above 0"):
        figures.curves({"a": [0.1, 0.5]}, [0, 1], xlabel="n", ylabel="a", log_x=True)


def test_names_of_curves_stand_at_their_values():
    picture = figures.curves({"high": [0.5, 0.9], "low": [0.5, 0.2]}, xlabel="k", ylabel="a")
    axes = picture.figure.axes[0]
    for text, value in zip(axes.texts, (0.2, 0.9), strict=True):
        box = matplotlib.text.Text.get_window_extent(text)
        assert (box.y0 + box.y1) / 2 == pytest.approx(
            axes.transData.transform((0, value))[1], abs=3
        )


def test_curves_differ_without_colour():
    series = {str(n): [n, n] for n in range(8)}
    lines = figures.curves(series, xlabel="k", ylabel="a").figure.axes[0].lines
    assert len({line.get_marker() for line in lines}) == 8
    assert len({line.get_color() for line in lines}) == 8


def test_bars_return_mean_interval_and_seeds():
    picture = figures.bars({"None": 0.2, "GR": [0.8, 0.82, 0.84]}, xlabel="accuracy")
    assert picture.rows[0][:2] == ("None", 0.2) and picture.rows[0][3] == 1
    assert picture.rows[1] == ("GR", pytest.approx(0.82), pytest.approx(0.049683, abs=1e-6), 3)
    assert picture.alt == "Bars of accuracy: None 0.200; GR 0.820 ± 0.050 (3 runs)."
    dots = [line for line in picture.figure.axes[0].lines if line.get_marker() == "o"]
    assert [line.get_xdata().tolist() for line in dots] == [[0.8, 0.82, 0.84]]


def test_everything_stays_inside_its_figure():
    labels = [f"method {n}, a rather long label that needs two lines" for n in range(8)]
    lines = {"chance": 0.1, "published DGR": 0.95, "published joint": 0.97, "judge": 0.98}
    wide = {f"a title that is long {n}": np.eye(5) for n in range(4)}
    pictures = {
        **one_of_each(),
        "bars with lines": figures.bars(dict.fromkeys(labels, 0.9), xlabel="a", vlines=lines),
        "four maps": figures.heatmaps(wide),
        "small map": figures.heatmaps({"GR": np.eye(2)}),
        "ten maps": figures.heatmaps({str(n): np.eye(10) for n in range(3)}),
    }
    for name, picture in pictures.items():
        box, (width, height) = picture.figure.get_tightbbox(), picture.figure.get_size_inches()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, name
        assert width < 8.2, name
        sizes = [t.get_fontsize() for t in picture.figure.findobj(matplotlib.text.Text)]
        assert min(sizes) >= 9, name
        assert len(figures.as_png(picture)) < 60_000, name


def test_images_show_their_pixels():
    grid = np.zeros((2, 3, 8, 8))
    grid[0, 1] = 1
    grid[1, 2] = np.nan
    picture = figures.images(grid, ["real", "dream"], ["a", "b", "c"])
    assert picture.rows == () and picture.columns == ()
    assert "2 rows by 3 columns, 8 by 8 pixels" in picture.alt
    assert "Rows: real, dream." in picture.alt and "Columns: a, b, c." in picture.alt
    assert "Grey squares" in picture.alt
    shown = picture.figure.axes[0].images[0].get_array()
    # Images are 8 pixels apart plus a gap of 1: tile (i, j) starts at (9 i, 9 j).
    assert (shown[:8, :8] == 0).all() and (shown[:8, 9:17] == 1).all()
    assert (shown[:, 8] == 1).all() and (shown[8] == 1).all()
    assert shown[9:, 18:].min() == shown[9:, 18:].max() == pytest.approx(0xD9 / 255)
    # Crisp: a whole number of screen pixels for each image pixel.
    box = picture.figure.axes[0].get_window_extent()
    zoom = box.width / shown.shape[1]
    assert (
        zoom > 1 and zoom == pytest.approx(round(zoom)) and box.x0 == pytest.approx(round(box.x0))
    )
    assert "there is no table" in figures.as_html(picture)


def test_strips_have_narrow_gaps():
    """A row of masks is wide and low: the gap follows the shorter side."""
    shown = figures.images(np.zeros((2, 1, 12, 240))).figure.axes[0].images[0].get_array()
    assert shown.shape[:2] == (25, 240)


def test_colour_images():
    grid = np.zeros((1, 1, 3, 4, 4))
    grid[0, 0, 0] = 1
    assert figures.images(grid).figure.axes[0].images[0].get_array()[0, 0].tolist() == [1, 0, 0]


def test_html_is_escaped():
    for picture in (
        figures.heatmaps({NASTY: R}),
        figures.bars({NASTY: 0.5}, xlabel=NASTY),
        figures.images(np.zeros((1, 1, 8, 8)), [NASTY]),
        figures.table([[NASTY, 1]], [NASTY, NASTY], NASTY),
    ):
        html = figures.as_html(picture, NASTY)
        assert "<b>" not in html
        assert "&lt;b&gt;&quot;GR&quot; &amp; &#x27;None&#x27;" in html
        assert html.count("<img") == (picture.figure is not None)


def test_html_has_image_caption_and_table():
    picture = figures.bars({"GR": 0.5}, xlabel="accuracy")
    html = figures.as_html(picture, "What replay does.")
    assert html.startswith('<figure role="group"') and html.endswith("</figure>")
    assert re.search(r'<img alt="Bars of accuracy: GR 0.500." src="data:image/png;base64,', html)
    assert "<figcaption>What replay does.</figcaption>" in html
    assert "<details><summary>Data table</summary><table><caption>" in html
    assert '<th scope="col">mean accuracy</th>' in html
    assert '<th scope="row">GR</th><td>0.500</td>' in html
    assert "<figcaption>" not in figures.as_html(picture)


def test_table():
    rows = [["MLP", 42310, 1 / 3], ["VAE", 1069684, None]]
    picture = figures.table(rows, ["network", "parameters", "share"], "Sizes")
    assert picture.rows == tuple(map(tuple, rows))
    html = figures.as_html(picture)
    assert html.startswith("<table><caption>Sizes</caption>")
    assert html.count('scope="col"') == 3 and html.count('scope="row"') == 2
    assert "<td>42,310</td><td>0.333</td>" in html
    assert "<td>1,069,684</td><td>not measured</td>" in html
    assert figures.as_html(figures.table([[n] for n in range(99)], ["n"], "all")).count("row") == 99


def test_the_empty_corner_of_a_table_is_no_heading():
    html = figures.as_html(figures.table([["MLP", 1]], ["", "parameters"], "Sizes"))
    assert '<tr><td></td><th scope="col">parameters</th></tr>' in html


def test_long_tables_are_thinned_on_the_page_only():
    picture = figures.curves({"loss": np.arange(1000)}, xlabel="step", ylabel="loss (nats)")
    html = figures.as_html(picture)
    assert len(picture.rows) == 1000
    assert html.count('scope="row"') == 40 and "One row in 25 of 1000 rows." in html


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.81234, "0.812"),
        (np.float32(12.34), "12.3"),
        (1e-5, "1.0e-05"),
        (0.0, "0.000"),
        (12345.6, "12,346"),
        (2018, "2018"),
        (np.int64(10), "10"),
        (float("nan"), "not measured"),
        (float("inf"), "inf"),
        ("<x>", "<x>"),
        (True, "True"),
    ],
)
def test_readable(value, text):
    assert style.readable(value) == text


@pytest.mark.parametrize("kind", ["heatmaps", "curves", "bars", "images"])
def test_png_is_the_same_every_time(kind):
    a, b = one_of_each()[kind], one_of_each()[kind]
    assert figures.as_png(a) == figures.as_png(a) == figures.as_png(b)
    assert not Image.open(io.BytesIO(figures.as_png(a))).info.keys() & {"Software", "Date"}


def test_save_is_atomic(tmp_path):
    picture = one_of_each()["bars"]
    path = figures.save(picture, tmp_path / "bars.png")
    assert path.read_bytes() == figures.as_png(picture)
    assert [p.name for p in tmp_path.iterdir()] == ["bars.png"]
    with pytest.raises(UserError, match="cannot write"):
        figures.save(picture, tmp_path / "missing" / "bars.png")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        figures.save(picture, tmp_path / "folder")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bars.png", "folder"]


def test_show_displays_one_output(monkeypatch):
    import IPython
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: object())
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: shown.append((data, raw)))
    picture = one_of_each()["bars"]
    assert figures.show(picture, "caption") is None
    html = figures.as_html(picture, "caption")
    assert shown == [({"text/html": html, "text/plain": picture.alt}, True)]


def test_no_pyplot_no_jupyter_no_global_state():
    code = """
import sys, warnings, matplotlib
# Reading "backend" would import pyplot.
read = lambda: {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != "backend"}
before = read()
from cltutor import figures
warnings.simplefilter("error")  # not before: an old matplotlib warns when it is imported
p = figures.bars({"a": [1, 2, 3]}, xlabel="x", vlines={"b": 2})
assert figures.show(p).startswith("<figure")
figures.show(figures.heatmaps({"a": [[1.0]]}))
figures.show(figures.curves({"a": [1, 2]}, xlabel="x", ylabel="y"))
figures.show(figures.images([[[[0.0]]]]))
assert read() == before, "rcParams changed"
print([m for m in ("matplotlib.pyplot", "IPython", "ipywidgets", "torch") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_style_of_the_caller_does_not_leak_in():
    plain = figures.as_png(one_of_each()["curves"])
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "text.color": "red"}):
        assert figures.as_png(one_of_each()["curves"]) == plain


def test_palette_reads_as_text_on_white_and_is_distinct():
    assert len(set(style.PALETTE)) == len(style.MARKERS) == 8
    for colour in (*style.PALETTE, style.INK, style.MUTED):
        assert style.contrast(colour, "white") >= 4.5, colour
    assert style.contrast("white", "black") == pytest.approx(21)
    assert style.contrast("#0072B2", "white") == pytest.approx(5.19, abs=0.01)


@pytest.mark.parametrize(
    "call",
    [
        lambda: figures.heatmaps({}),
        lambda: figures.heatmaps({"a": [0.5, 0.5]}),
        lambda: figures.heatmaps({"a": [[50.0]]}),
        lambda: figures.heatmaps({"a": [[0.5], [0.5, 0.6]]}),
        lambda: figures.heatmaps({"a": np.eye(2), "b": np.eye(3)}),
        lambda: figures.curves({}, xlabel="x", ylabel="y"),
        lambda: figures.curves({"a": [1, 2], "b": [1]}, xlabel="x", ylabel="y"),
        lambda: figures.curves({"a": [1, 2]}, [0], xlabel="x", ylabel="y"),
        lambda: figures.curves({"a": [1, 2]}, ["p", "q"], xlabel="x", ylabel="y"),
        lambda: figures.curves({str(n): [1] for n in range(9)}, xlabel="x", ylabel="y"),
        lambda: figures.bars({}, xlabel="x"),
        lambda: figures.bars({"a": []}, xlabel="x"),
        lambda: figures.bars({"a": "b"}, xlabel="x"),
        lambda: figures.images(np.zeros((2, 8, 8))),
        lambda: figures.images(np.zeros((1, 1, 2, 8, 8))),
        lambda: figures.images(np.full((1, 1, 8, 8), -1.0)),
        lambda: figures.images(np.zeros((1, 2, 8, 8)), col_labels=["a"]),
        lambda: figures.table([[1, 2]], ["a"], "t"),
        lambda: figures.as_png(figures.table([[1]], ["a"], "t")),
    ],
)
def test_wrong_input_is_one_line(call):
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)


def test_source_is_the_file_of_today_as_code():
    shown = figures.source(style)
    assert str(shown) == Path(style.__file__).read_text(encoding="utf-8").rstrip()
    html = shown._repr_html_()
    # JupyterLab shows a <pre> in an output in the font of text, a <code> in that of code
    code = re.fullmatch(
        r"<details open><summary>cltutor.figures.style</summary>"
        r"<pre><code>(.*)</code></pre></details>",
        html,
        re.DOTALL,
    )
    assert unescape(code[1]) == str(shown)
    assert figures.source(style, folded=True)._repr_html_().startswith("<details><summary>")


def test_difference_marks_what_goes_and_what_comes():
    shown = figures.difference(finetune, lwf)
    lines = str(shown).splitlines()
    assert any(line.startswith("+") and "frozen_copy" in line for line in lines)
    assert not any("Learning without forgetting" in line for line in lines), "a docstring"
    html = shown._repr_html_()
    assert html.count("<ins>") == sum(line.startswith("+") for line in lines)
    assert html.count("<del>") == sum(line.startswith("-") for line in lines) > 0
