"""Make front.png, the README's picture, from two figures stored in notebook 01.

python notebooks/img/front.py
"""

import io
from pathlib import Path

import nbformat
from PIL import Image

from cltutor import notebook

CELLS = ("cure", "dreams")  # the heat maps of R, the dreams


def main() -> None:
    """Stack the two figures, as wide as the wider one."""
    stored = nbformat.read(notebook.find("01"), 4)
    stored.cells = [cell for cell in stored.cells if cell.id in CELLS]
    parts = [Image.open(io.BytesIO(png)).convert("RGB") for png in notebook.pictures(stored)]
    width, gap = max(part.width for part in parts), 16
    height = sum(part.height for part in parts) + gap * (len(parts) - 1)
    page, top = Image.new("RGB", (width, height), "white"), 0
    for part in parts:
        page.paste(part, (0, top))
        top += part.height + gap
    page.quantize(256).save(Path(__file__).with_name("front.png"), optimize=True)


if __name__ == "__main__":
    main()
