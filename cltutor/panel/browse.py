"""Pictures of which one is looked at: a slider or a toggle over results that are there already."""

from collections.abc import Mapping, Sequence

from cltutor import figures
from cltutor.claims import Lesson
from cltutor.errors import UserError


def browse(
    lesson: Lesson,
    label: str,
    pictures: Mapping[str, figures.Picture],
    *,
    still: Sequence[str] | None = None,
    caption: str | None = None,
) -> None:
    """Show some of the pictures; below them, if interactive, a slider over all of them.

    Args:
        label: what one chooses, the name of the slider.
        pictures: choice -> picture, in the order of the slider.
        still: the choices whose pictures stand there for every reader; default: all.
        caption: of every picture, behind its choice.

    Raises:
        UserError: no pictures, or a choice in `still` that is not among them.
    """
    still = list(pictures) if still is None else still
    if not pictures or not set(still) <= set(pictures):
        raise UserError(f"no picture {still}: there are {', '.join(pictures) or 'none'}.")
    named = {one: f"{label}: {one}. {caption or ''}".rstrip() for one in pictures}
    for one in still:
        figures.show(pictures[one], named[one])
    if lesson.interactive:
        from IPython.display import display

        from cltutor.panel.layout import browser

        pages = {one: figures.as_html(picture, named[one]) for one, picture in pictures.items()}
        display(browser(label, pages))
