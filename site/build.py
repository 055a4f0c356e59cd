"""Build the site in build/site, from the notebooks as they are stored and without a network.

python site/build.py [options of sphinx-build]

The originals are laid out in build/pages as they lie in the checkout, so that their links hold,
beside the pages that `pages.py` makes. Exit status: that of sphinx-build.
"""

import re
import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import build_main

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT)]

import pages  # noqa: E402

# What is laid out: pages, and the files that they link to or show.
ORIGINALS = (
    *("*.md", "LICENSE", "LICENSE-docs", "CITATION.cff", "data/README.md", "benchmarks/results.md"),
    *("notebooks/*.md", "notebooks/*.ipynb", "notebooks/img/*.png"),
)
PAPER = re.compile(r"\[([\w-]+)\]\(((?:[\w-]+/)*)references\.bib\)")
MODULE = re.compile(r"\]\(cltutor/([\w/]+)\.py\)")


def build(folder: Path, options: list[str] = ()) -> int:
    """Lay out `folder`/pages and have Sphinx make `folder`/site of them; its exit status.

    An earlier site stays until the new one is whole, and leaves nothing behind in it.
    """
    source, site, part = folder / "pages", folder / "site", folder / "site.part"
    lay_out(source)
    shutil.rmtree(part, ignore_errors=True)
    # -W: a warning is a fault, such as a link that leads nowhere. -E: read all anew.
    settings = ["-q", "-W", "--keep-going", "-E", "-c", str(HERE), "-d", str(folder / "read")]
    status = build_main([*settings, *options, str(source), str(part)])
    if status == 0:
        # The front page shows some as HTML of its own, which Sphinx does not look into.
        (part / "notebooks" / "img").mkdir(parents=True, exist_ok=True)
        for picture in (ROOT / "notebooks" / "img").glob("*.png"):
            shutil.copy(picture, part / "notebooks" / "img")
        shutil.rmtree(site, ignore_errors=True)
        part.rename(site)
    return status


def lay_out(folder: Path) -> None:
    """Write all pages below `folder`, which holds nothing else afterwards."""
    laid = {f"{name}.md": text.encode() for name, text in pages.made().items()}
    for pattern in ORIGINALS:
        for path in ROOT.glob(pattern):
            content = path.read_bytes()
            if path.suffix in (".md", ".ipynb"):
                content = linked(content.decode()).encode()
            laid[path.relative_to(ROOT).as_posix()] = content
    laid["index.md"] = (HERE / "index.md").read_bytes()
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in laid.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def linked(text: str) -> str:
    """A page whose links to papers and modules lead to the pages that stand for them here."""
    text = PAPER.sub(r"[\1](\2references.md#\1)", text)
    return MODULE.sub(lambda found: f"](api/cltutor.{found[1].replace('/', '.')}.md)", text)


if __name__ == "__main__":
    status = build(ROOT / "build", sys.argv[1:])
    if status == 0:
        print("The site is in build/site: open build/site/index.html in a browser.")
    sys.exit(status)
