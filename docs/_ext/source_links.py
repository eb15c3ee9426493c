"""Sources without links back: they would name a module that describes nothing under that name."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

BACK = re.compile(r'<a class="viewcode-back"[^>]*>.*?</a>', re.DOTALL)
NO_SOURCE = re.compile(r'<li><a href="builtins\.html">.*?</li>', re.DOTALL)  # of what C made


def without_way_back(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object
) -> None:
    """Drop the links from a page of sources to the API, and to sources that don't exist."""
    if pagename.startswith("_modules/"):
        context["body"] = NO_SOURCE.sub("", BACK.sub("", context["body"]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Look at every page."""
    app.connect("html-page-context", without_way_back)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
