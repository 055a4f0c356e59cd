"""Sphinx's settings. `build.py` lays the pages out and calls it; nothing here reaches out."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import docstrings  # noqa: E402

import cltutor  # noqa: E402

project = "cltutor"
author = "The cltutor authors"
copyright = "The cltutor authors. Code MIT, prose, figures and recorded results CC BY 4.0"
version = release = cltutor.__version__
language = "en"
smartquotes = False  # a quotation mark in a docstring is code more often than not

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
# README is the front page, by inclusion.
exclude_patterns = ["README.md"]
highlight_language = "text"
nb_execution_mode = "off"
# Formulas are plain text. Without a syntax for TeX no page asks for MathJax, which lies elsewhere.
myst_enable_extensions = []
myst_heading_anchors = 4
suppress_warnings = [
    "myst.header",  # what is included may begin below the first level
    "mystnb.unknown_mime_type",  # claims tables carry their numbers beside their HTML
]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True
python_use_unqualified_type_names = True

html_theme = "pydata_sphinx_theme"
html_title = "cltutor"
html_static_path = ["static"]
html_css_files = ["cltutor.css"]
html_copy_source = html_show_sourcelink = html_domain_indices = False
# No column for the navigation of a section where there is none.
html_sidebars = {name: [] for name in ("index", "results", "INSTRUCTORS", "CONTRIBUTING", "data/*")}
html_theme_options = {
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "navigation_depth": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


def flatten(app, name, template, context, tree) -> None:
    """Sphinx's hook: one list of modules, where viewcode puts lists outside of any item."""
    if name == "_modules/index":
        head, listed = context["body"].split("<ul>", 1)
        context["body"] = f"{head}<ul>{listed.replace('<ul>', '').replace('</ul>', '')}</ul>"


def setup(app):
    """Docstrings are plain text: they are made reStructuredText before napoleon reads them."""
    app.connect("html-page-context", flatten)
    app.connect("autodoc-process-docstring", docstrings.process, priority=400)
    app.connect("autodoc-process-signature", docstrings.sign)
