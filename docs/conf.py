"""Sphinx's configuration of the documentation site: `make docs` builds it into build/docs."""

import sys
from pathlib import Path

from sphinx import addnodes

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT))

from docs import generate  # noqa: E402 - the path comes first

generate.write_all(PROJECT / "docs" / "generated")

project = "codegen-pax"
author = "the codegen-pax authors"
project_copyright = "the codegen-pax authors, Apache-2.0"
release = generate.version()

extensions = ["myst_parser", "sphinx_copybutton"]
exclude_patterns = ["generated/include/*"]

myst_enable_extensions = ["attrs_block", "attrs_inline", "deflist"]
myst_heading_anchors = 3

# Every reference must resolve, but for the types in signatures: most belong to other projects.
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]
python_maximum_signature_line_length = 90

html_theme = "sphinx_book_theme"
html_title = "codegen-pax"
html_static_path = ["_static"]
html_css_files = ["labels.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "navbar_persistent": [],  # the search stands in the sidebar
    "show_navbar_depth": 1,
    "use_download_button": False,
    "use_fullscreen_button": False,
}
pygments_style = "sphinx"


def setup(app):
    """Registers what runs while the site is built."""
    app.connect("doctree-read", link_exact_names)


def link_exact_names(app, doctree):  # noqa: ARG001 - Sphinx passes both
    """Makes a type in a signature link only to a class of its own module, or to a full name.

    Sphinx otherwise links a bare name to whichever class of that name it finds first.
    """
    for reference in doctree.findall(addnodes.pending_xref):
        if reference.get("refdomain") == "py":
            reference.attributes.pop("refspecific", None)
