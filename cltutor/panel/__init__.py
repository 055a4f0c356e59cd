"""Panels: train a method from a notebook with switches, watch, stop, compare.

`show` is what a notebook calls. Where nothing is interactive it builds no widget: the same Session
runs there, and the figure and the table stand in the panel's place. This module loads no widgets.
"""

from collections.abc import Sequence

import numpy as np
import torch

from cltutor import figures, recipe
from cltutor.claims import Lesson
from cltutor.figures.style import PALETTE
from cltutor.panel import fields
from cltutor.panel.browse import browse as browse
from cltutor.panel.runs import Run, compared, drawn
from cltutor.session import Session

_shown: dict[tuple, object] = {}  # the panels on the page, by what they are called with


def show(
    lesson: Lesson, methods: str | Sequence[str], switches: Sequence[str] = (), **chosen
) -> None:
    """Show what the methods do with their own settings; below it a live panel, if interactive.

    Args:
        lesson: says profile, seed and whether the notebook is interactive.
        methods: one, or several of which the reader chooses. Each is run with the profile's
            settings, or found trained: let the notebook have fitted them.
        switches: fields of the methods' Configs, and "scenario". A switch that only some methods
            have is there when one of these is chosen.
        chosen: `preset`, `stream`, `scenario` of `recipe.setting`, where not the profile's.

    Raises:
        UserError: an unknown method, or a switch that no method has.
        Exception: what a method raised.
    """
    methods = (methods,) if isinstance(methods, str) else tuple(methods)
    fields.switches(methods, switches, lesson.profile, lesson.seed, **chosen)
    runs = []
    for number, method in enumerate(methods, 1):
        session = Session(*recipe.setting(method, lesson.profile, lesson.seed, **chosen))
        session.start()
        if session.wait() == "failed":
            raise session.snapshot.error
        runs.append(Run.of(session, number, method))
    figures.show(_still(runs))
    figures.show(compared(runs))
    if lesson.interactive:
        from IPython.display import display

        from cltutor.panel.view import Panel

        # The first optimiser makes torch import for seconds: better now than after Start.
        torch.optim.Adam([torch.zeros(1)])
        if (before := _shown.get((lesson.name, methods))) is not None:
            before.close()  # the cell is run again
        panel = Panel(methods, switches, profile=lesson.profile, seed=lesson.seed, **chosen)
        _shown[lesson.name, methods] = panel
        display(panel)


def _still(runs: Sequence[Run]) -> figures.Picture:
    """One run: the accuracy on each experience after every experience. Several: their means."""
    if len(runs) > 1:
        return drawn(runs)
    shot = runs[0].shot
    if len(shot.R) > len(PALETTE):
        return figures.heatmaps({runs[0].name: shot.R})
    whole = shot.x == np.round(shot.x)
    series = {f"experience {j}": values for j, values in enumerate(shot.accuracy[whole].T)}
    return figures.curves(series, xlabel="experiences trained", ylabel=shot.measure, ylim=(0, 1))
