"""A cell of shell commands is shown as what one types into a shell.

On a page it begins with ``%%bash``, for the kernel; the reader sees the commands, as Bash.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

MAGIC = "%%bash\n"


def as_shell(app: Sphinx, tree: nodes.document) -> None:
    """Take the magic off the cells of a page."""
    for block in tree.findall(nodes.literal_block):
        if block.rawsource.startswith(MAGIC) or block.astext().startswith(MAGIC):
            text = block.astext().removeprefix(MAGIC)
            block.rawsource, block["language"] = text, "bash"
            block.children = []
            block += nodes.Text(text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Once the page is read, before it is written."""
    app.connect("doctree-read", as_shell)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
