"""How the pages of this folder become HTML: ``tox run -e docs``.

The pages are written for GitHub, too. What has to be otherwise here is changed while a page is
read: links to examples lead to their pages in the gallery, and links to folders and pages outside
of this one become text. Other links to files are downloads.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx

import vivit

HERE = Path(__file__).parent
EXAMPLES = HERE / "examples"
TITLED = HERE / "_build" / "examples"
"""The examples as the gallery wants them."""

NOT_RUN = ("language_model", "monitor_lightning")
"""One takes long, the other needs lightning. Tests run both."""

project, author = "vivit", "The vivit developers"
copyright = author  # noqa: A001
release = version = vivit.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples"]
default_role = "py:obj"  # in docstrings, a name in backticks is a link where there is something
highlight_language = "text"

myst_heading_anchors = 3  # as on GitHub
autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_use_ivar = True

if os.environ.get("VIVIT_DOCS_INTERSPHINX"):  # names of others, from their sites
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
    }

sphinx_gallery_conf = {
    "examples_dirs": [str(TITLED)],
    "gallery_dirs": ["gallery"],
    "filename_pattern": rf"/(?!{'|'.join(NOT_RUN)})\w+\.py$",
    "ignore_pattern": r"__init__\.py",
    "image_scrapers": ("matplotlib",),
    "reset_modules": (),
    "capture_repr": (),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "vivit"
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navbar_persistent": ["search-button"],
    "show_toc_level": 2,
}
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sphinx = False


def setup(app: Sphinx) -> None:
    """Prepare the examples, and how pages are read."""
    _title_examples()
    app.connect("source-read", _links_of_here)


def _title_examples() -> None:
    """Copy the examples, the first line of each made a title."""
    shutil.rmtree(TITLED, ignore_errors=True)
    TITLED.mkdir(parents=True)
    (TITLED / "GALLERY_HEADER.rst").write_text(
        "Examples\n========\n\nComplete programs, with what they print.\n"
    )
    for file in EXAMPLES.glob("*.py"):
        (TITLED / file.name).write_text(_titled(file.read_text()))


def _titled(source: str) -> str:
    first, _, rest = source.partition("\n")
    title = first.strip('"').rstrip(".")
    end = '"""\n' if first.endswith('"""') else ""
    return f'"""\n{title}\n{"=" * len(title)}\n{end}{rest}'


def _links_of_here(app: Sphinx, name: str, source: list[str]) -> None:
    if "/" in name:
        return
    text = re.sub(r"\]\(examples/(\w+)\.py\)", r"](gallery/\1.rst)", source[0])
    text = text.replace("](examples)", "](gallery/index.rst)")
    source[0] = re.sub(r"\[([^\]]+)\]\(\.\./[^)]*(?:\.md|/\w+)\)", r"\1", text)
