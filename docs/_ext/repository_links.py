"""Links that work in the repository work on the site.

``[Contributing](../CONTRIBUTING.md)`` is a file of the repository; the site has it as a page.
"""

from __future__ import annotations

import os.path
import re

from sphinx.application import Sphinx

PAGES = {"CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changelog", "README.md": "index"}
LINK = re.compile(r"\]\(((?:\.\./)+)(CONTRIBUTING|CHANGELOG|README)\.md(#[\w-]+)?\)")


def lead_to_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Point such links to pages."""
    here = os.path.dirname(docname) or "."

    def page(match: re.Match[str]) -> str:
        target = os.path.relpath(PAGES[f"{match[2]}.md"], here)
        return f"]({target}.md{match[3] or ''})"

    source[0] = LINK.sub(page, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Look at every source."""
    app.connect("source-read", lead_to_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
