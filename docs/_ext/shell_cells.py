"""A cell of shell commands is shown as what one types into a shell.

On a page it begins with ``%%bash``, for the kernel; the reader sees the commands, as Bash. What
they print arrives in pieces that end anywhere, in the middle of a word too.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from docutils import nodes
from jupyter_cache.executors import utils as execution
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


def join_pieces() -> None:
    """Let the kernel's client join the output: MyST-NB would end every piece with a line break."""
    execution.executenb = partial(execution.executenb, coalesce_streams=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Output is joined as a page is executed; magic goes once it is read, before it is written."""
    join_pieces()
    app.connect("doctree-read", as_shell)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
