"""Buttons whose action runs one at a time, its errors shown in the panel."""

from collections.abc import Callable
from threading import RLock

import ipywidgets as widgets

from cltutor.panel import pictures


def safely(lock: RLock, status: widgets.HTML, action: Callable[[], None]) -> Callable:
    """`action` as a widget calls it, its errors shown in `status`: Jupyter drops them."""

    def call(_) -> None:
        try:
            with lock:
                action()
        except Exception as error:
            status.value = pictures.failure(error)

    return call


def button(lock: RLock, status: widgets.HTML, description: str, action) -> widgets.Button:
    """A button that calls `action` safely."""
    made = widgets.Button(description=description)
    made.on_click(safely(lock, status, action))
    return made
