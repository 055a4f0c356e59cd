"""How the parts of a panel are arranged: two columns that become one where there is little room."""

from collections.abc import Mapping
from html import escape
from importlib.resources import files

import ipywidgets as widgets

NOTE = "While another cell runs, a button may answer only when that cell has ended."


def wide(**more) -> widgets.Layout:
    """As wide as the column."""
    return widgets.Layout(width="auto", **more)


def checkbox(description: str, value: bool) -> widgets.Checkbox:
    """A checkbox whose label needs no other column."""
    return widgets.Checkbox(value, description=description, indent=False, layout=wide())


def text(description: str, value: str = "") -> widgets.Text:
    """A line of text that is read when it is finished."""
    return widgets.Text(value, continuous_update=False, **look(description))


def look(description: str, tooltip: str | None = None) -> dict:
    """Options of a control with its description at the left."""
    style = {"description_width": "7em"}
    tooltip = tooltip or description
    return dict(description=description, tooltip=tooltip, style=style, layout=wide())


def arranged(panel) -> widgets.Box:
    """The parts of a Panel in one box, with its style and its script."""
    buttons = row(panel.start, panel.resume, panel.reset)
    left = [panel.switches.box, panel.anew, buttons, *told(panel), panel.finished]
    charts = dict(panel.pictures)
    below = [charts.pop("comparison"), panel.show_numbers, charts.pop("numbers")]
    for chart in charts.values():
        chart.layout.flex, chart.layout.max_width = "1 1 235px", "420px"
    for part in below:
        part.layout.flex = "1 1 100%"
    return framed(left, [*charts.values(), *below], "training")


def told(panel) -> list[widgets.DOMWidget]:
    """Status, progress and note of a panel, as its left column has them."""
    status = _named("status", _named("told", widgets.VBox([panel.status])))
    note = _named("note", widgets.HTML(escape(NOTE)))
    return [status, _named("progress", panel.progress), note]


def framed(left: list, right: list, kind: str) -> widgets.Box:
    """Controls at the left, pictures at the right, in a box with the panels' style and script."""
    flow = dict(display="flex", flex_flow="row wrap")
    wider = widgets.Layout(flex="3 1 340px", max_width="660px", **flow)
    column = widgets.Layout(flex="1 1 220px", max_width="270px")
    columns = [
        _named("left", widgets.VBox(left, layout=column)),
        _named("right", widgets.Box(right, layout=wider)),
    ]
    box = widgets.Box([*columns, widgets.HTML(_script())], layout=widgets.Layout(**flow))
    return _named(kind, _named("panel", box))


def finished(panel) -> widgets.VBox:
    """What belongs to the runs that are over."""
    told = _named("told", widgets.VBox([panel.exported]))
    buttons = row(panel.remove, panel.export)
    parts = [panel.kept, panel.name, panel.folder, buttons, told]
    return widgets.VBox(parts, layout=widgets.Layout(display="none"))


def browser(label: str, pages: Mapping[str, str]) -> widgets.Box:
    """A slider over pages of HTML, of which one is shown; the first to begin with."""
    slider = widgets.SelectionSlider(options=list(pages), **look(label))
    page = widgets.HTML(pages[slider.value])
    slider.observe(lambda change: setattr(page, "value", pages[change["new"]]), "value")
    box = widgets.VBox([slider, page, widgets.HTML(_script())])
    return _named("browse", _named("panel", box))


def close(*parts: widgets.DOMWidget) -> None:
    """Take widgets off the page for good, with all that is in them; else they live on."""
    for part in parts:
        close(*(part.children if isinstance(part, widgets.Box) else ()))
        part.layout.close()
        if part.has_trait("style"):
            part.style.close()
        part.close()


def row(*parts) -> widgets.HBox:
    """Buttons beside each other."""
    return _named("buttons", widgets.HBox(parts))


def _named(name: str, widget):
    widget.add_class(f"cltutor-{name}")
    return widget


def _script() -> str:
    """panel.css and panel.js in the page: HTML widgets run no script but that of an event."""
    folder = files("cltutor.panel")
    style, script = (folder.joinpath(name).read_text("utf-8") for name in ("panel.css", "panel.js"))
    return f'<style>{style}</style><img hidden alt="" src="data:," onerror="{escape(script)}">'
