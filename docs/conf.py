"""Sphinx's settings: `sphinx-build -W -c docs . build/site` makes the pages into a site, and ends with an error where one leads nowhere.

The sources' folder is the repository, since pages name files of all of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import graphc

sys.path.insert(0, str(Path(__file__).parent))

project = "graphc"
copyright = "the authors of graphc"  # noqa: A001  (Sphinx's name)
version = release = graphc.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton", "docstrings"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4  # links name headings as GitHub does
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "benchmarks/README.md", "examples/*/README.md"]

default_role = "code"  # what docstrings have in backticks
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = f"graphc {release}"
html_copy_source = False
