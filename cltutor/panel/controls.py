"""The switches of a panel as widgets: checkbox, dropdown, slider; nothing out of range fits in."""

from collections.abc import Sequence
from typing import Literal, get_origin

import ipywidgets as widgets

from cltutor import recipe
from cltutor.panel import fields
from cltutor.panel.layout import look


class Switches:
    """The controls of one or several methods, of which one is chosen.

    Attributes:
        method: the dropdown of the methods; shown if there are several.
        controls: {method: {switch: widget}}.
        box: the widget that holds what belongs to the chosen method.
    """

    def __init__(
        self, methods: Sequence[str], names: Sequence[str], profile: str, seed: int, **chosen
    ):
        """As `fields.switches`, and raises UserError as it does."""
        self._run = {"profile": profile, "seed": seed, **chosen}
        self._fields = fields.switches(methods, names, **self._run)
        self.controls = {
            method: {field.name: control(field) for field in found}
            for method, found in self._fields.items()
        }
        self.method = widgets.Dropdown(options=list(methods), **look("method"))
        self.box = widgets.VBox()
        self.method.observe(self._arrange, "value")
        self._arrange()

    @property
    def all(self) -> list[widgets.DOMWidget]:
        """The controls of all methods, and the dropdown."""
        found = [widget for controls in self.controls.values() for widget in controls.values()]
        return [self.method, *found]

    def _arrange(self, change=None) -> None:
        chosen = list(self.controls[self.method.value].values())
        self.box.children = [self.method, *chosen] if len(self.controls) > 1 else chosen

    @property
    def values(self) -> dict:
        """{switch: value} of the chosen method."""
        return {name: widget.value for name, widget in self.controls[self.method.value].items()}

    def setting(self) -> tuple:
        """(method, stream, cfg) as the switches stand. Raises what loading the data raises."""
        return recipe.setting(self.method.value, **self._run | self.values)

    def label(self) -> str:
        """A name for a run with these settings: what was changed."""
        words = [self.method.value] if len(self.controls) > 1 else []
        for field in self._fields[self.method.value]:
            value = self.values[field.name]
            if value != field.value:
                words.append(f"{field.name}={fields.written(value)}")
        return ", ".join(words) or self.method.value

    def reset(self) -> None:
        """All switches as they were at first."""
        self.method.value = next(iter(self.controls))
        for method, found in self._fields.items():
            for field in found:
                self.controls[method][field.name].value = field.value

    def disable(self, disabled: bool) -> None:
        """Whether the switches take no input."""
        for widget in self.all:
            widget.disabled = disabled


def control(field: fields.Field) -> widgets.DOMWidget:
    """The widget of one switch, made from its type and its range alone."""
    value, words = field.value, look(field.name, field.source and f"default: {field.source}")
    if field.kind is bool:
        return widgets.Checkbox(value, **words)
    if get_origin(field.kind) is Literal:
        return widgets.Dropdown(options=field.choices, value=value, **words)
    if field.choices is None:
        low, high = field.bounds
        return widgets.BoundedIntText(value, min=low, max=high, **words)
    options = [(fields.written(one), one) for one in field.choices]
    slider = dict(options=options, value=value, continuous_update=False)
    return widgets.SelectionSlider(**slider, **words)
