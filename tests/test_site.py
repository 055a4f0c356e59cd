"""The site: built without a network, its links, pictures and styles its own, its pages usable.

In a browser a few pages of each kind are looked at, all of them if CLTUTOR_EVERY_PAGE is set.
"""

import functools
import http.server
import importlib.util
import os
import re
import threading
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import conftest
import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from cltutor import bibliography, notebook, recipe, records

# Sphinx and its extensions warn each other of what is to change.
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning")]
pytestmark += [pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")]
pytestmark += [pytest.mark.timeout(3600 if os.environ.get("CLTUTOR_EVERY_PAGE") else 900)]
ROOT = Path(__file__).parents[1]
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
TAG = re.compile(r"<(\w+)\s([^<>]*)>")
ATTRIBUTE = re.compile(r'\b(href|src|srcset)="([^"]*)"')
NOTEBOOK = "notebooks/01_vae_generative_replay.html"
SAMPLE = (
    *("index.html", NOTEBOOK, "notebooks/notation.html"),
    *("api/cltutor.methods.dgr.html", "_modules/cltutor/metrics.html"),
)


def _module(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "site" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """{path: text} of all pages of the site, and its folder."""
    folder = tmp_path_factory.mktemp("site")
    conftest.guard["on"] = True
    assert _module("build").build(folder) == 0
    conftest.guard["on"] = False
    assert conftest.guard["reached"] == []
    root = folder / "site"
    pages = {path: path.read_text("utf-8") for path in root.rglob("*.html")}
    return root, {path: text for path, text in pages.items() if "_static" not in path.parts}


def faults(root: Path, page: Path, pages: dict[Path, str]) -> list[str]:
    """What is wrong with what a page links to and loads."""
    found = []
    for tag, attributes in TAG.findall(pages[page]):
        for name, target in ATTRIBUTE.findall(attributes):
            parts = urlsplit(unescape(target))
            if parts.scheme in ("http", "https") or target.startswith("//"):
                found += [f"{tag} loads {target}"] if tag != "a" else []
            elif not parts.scheme:
                path = Path(os.path.normpath(page.parent / unquote(parts.path)))
                path = path if parts.path else page
                if not path.is_file() or root not in path.parents:
                    found.append(f"{name}={target}: there is no such file")
                elif parts.fragment and path in pages:
                    if f'id="{unquote(parts.fragment)}"' not in pages[path]:
                        found.append(f"{name}={target}: there is no such place")
        if tag == "img" and not re.search(r'\balt="[^"]{20,}"', attributes):
            found.append(f"a picture without a description: {attributes[:80]}")
    return found


def test_pages_load_and_link_to_nothing_that_is_not_there(site):
    root, pages = site
    assert len(pages) > 100
    assert [fault for page in pages for fault in faults(root, page, pages)] == []
    for sheet in root.rglob("*.css"):
        loaded = re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')\s]+)", sheet.read_text("utf-8"))
        away = [one for one in loaded if re.match(r"(?:https?:)?//", one)]
        assert away == [], sheet


@pytest.mark.parametrize(
    ("planted", "words"),
    [
        ('<script src="https://example.org/x.js">', "script loads"),
        ('<link href="//example.org/x.css">', "link loads"),
        ('<a href="nowhere.html">', "no such file"),
        ('<a href="#nowhere">', "no such place"),
        ('<img src="index.html" alt="R">', "without a description"),
    ],
)
def test_faults_are_found(tmp_path, planted, words):
    page = tmp_path / "index.html"
    page.write_text(planted)
    (found,) = faults(tmp_path, page, {page: planted})
    assert words in found
    good = '<a id="here" href="https://example.org"><a href="index.html#here">'
    assert faults(tmp_path, page, {page: good}) == []


def test_everything_has_its_page(site):
    root, pages = site
    papers = bibliography.read((notebook.folder() / "references.bib").read_text("utf-8"))
    here = {path.relative_to(root).as_posix() for path in pages}
    assert {f"notebooks/{name}.html" for name in notebook.names()} <= here
    assert {f"api/cltutor.methods.{name}.html" for name in recipe.methods()} <= here
    assert {"INSTRUCTORS.html", "CONTRIBUTING.html", "notebooks/notation.html"} <= here
    text = pages[root / "notebooks" / "references.html"]
    assert [key for key in papers if f'id="{key}"' not in text] == []


def test_notebooks_show_what_is_stored(site):
    root, pages = site
    for name in notebook.names():
        stored = nbformat.read(notebook.folder() / f"{name}.ipynb", 4)
        pictures = re.findall(r'<img alt="([^"]+)', str(stored.cells).replace("\\'", "'"))
        text = pages[root / "notebooks" / f"{name}.html"]
        assert len(re.findall('<img alt="', text)) == len(pictures) > 3, name


def test_results_are_those_of_the_records(site):
    root, pages = site
    text = re.sub(r"<[^>]+>", "", unescape(pages[root / "results.html"]))
    for name, record in records.everything().items():
        assert name in text and record["command"] in text
        assert [row for row in records.rows(record) if row[2] not in text] == []


def test_api_has_shapes_and_settings(site):
    root, pages = site
    text = pages[root / "api" / "cltutor.methods.ewc.html"]
    words = " ".join(re.sub(r"<[^>]+>", "", unescape(text)).split())
    assert "(2) keep = lam/2 sum_i F_i (theta_i - theta*_i)^2" in words
    assert "theta* are the weights at the end of the experience before" in words
    assert "lam 1000.0 0.0 to 1000000000.0 ours; a grid, below" in words
    assert [page.name for page in pages if 'class="problematic"' in pages[page]] == []


def test_docstrings_become_restructured_text():
    docstrings = _module("docstrings")
    text = (
        "Idea. The x_ of `f(x)`s, |x|.\n    (1)  a* = b\nC is one.\n\nArgs:\n    x: images * 2.\n"
    )
    assert docstrings.as_rst(text) == (
        "**Idea.** The x\\_ of \\ ``f(x)``\\ s, \\|x\\|.\n"
        "\n::\n\n    (1)  a* = b\n\n"
        "C is one.\n\n"
        "Args:\n    x: images \\* 2."
    )
    signature = docstrings.sign(None, "function", "", records.describe, {}, None, None)
    assert signature == ("(seen: list[float])", "str")


@pytest.fixture(scope="module")
def address(site):
    """The address of the site on a server of its own."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    handler = functools.partial(Quiet, directory=site[0])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def page(chromium_path):
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=chromium_path)
        yield chrome.new_page(viewport={"width": 1280, "height": 900})
        chrome.close()


def violations(page, kind: str, values) -> list[str]:
    """What axe finds on the page."""
    options = {"runOnly": {"type": kind, "values": values}}
    # Styles are on the page already, and what passed need not be told in full.
    options |= {"preload": False, "resultTypes": ["violations"]}
    found = Axe().run(page, options=options).response
    assert found["passes"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found["violations"]]


@pytest.mark.timeout(3600)  # of every page
def test_pages_are_accessible_and_fetch_nothing(site, address, page):
    root, pages = site
    names = SAMPLE
    if os.environ.get("CLTUTOR_EVERY_PAGE"):
        names = sorted(path.relative_to(root).as_posix() for path in pages)
    away, found = [], {}
    page.on("request", lambda request: away.append(request.url))
    page.on("requestfailed", lambda request: found.setdefault(request.url, "not loaded"))
    # Else a colour is measured on its way from the light form to the dark one.
    page.emulate_media(reduced_motion="reduce")
    for name in names:
        page.emulate_media(color_scheme="light")
        page.goto(address + name)
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        found[name] = violations(page, "tag", RULES)
        page.emulate_media(color_scheme="dark")
        page.wait_for_selector("html[data-theme=dark]", state="attached")
        found[f"{name}, dark"] = violations(page, "rule", ["color-contrast"])
    assert {name: faults for name, faults in found.items() if faults} == {}
    assert [one for one in away if not one.startswith((address, "data:"))] == []


def test_wide_parts_scroll_by_keyboard(address, page):
    page.set_viewport_size({"width": 360, "height": 800})
    page.goto(address + NOTEBOOK)
    wide = """() => [...document.querySelectorAll('main *')].filter(one =>
      one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0
      && ['auto', 'scroll'].includes(getComputedStyle(one).overflowX))
      .map(one => [one.className, one.tabIndex])"""
    found = page.evaluate(wide)
    assert len(found) > 3 and [one for one in found if one[1] < 0] == []
    # The page itself stays as wide as its window.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
