"""Cells of shell commands are shown as one types them."""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from docutils.utils import new_document

EXTENSIONS = str(Path(__file__).parents[2] / "docs" / "_ext")


def test_the_magic_is_not_shown(monkeypatch):
    monkeypatch.syspath_prepend(EXTENSIONS)
    shell_cells = __import__("shell_cells")
    tree = new_document("page")
    for text in ("%%bash\nls run\nhead -1 a.csv", "print('%%bash')"):
        tree += nodes.literal_block(text, text, language="ipython3")
    shell_cells.as_shell(None, tree)
    sys.modules.pop("shell_cells")
    shell, python = tree.children
    assert (shell.astext(), shell["language"]) == ("ls run\nhead -1 a.csv", "bash")
    assert (python.astext(), python["language"]) == ("print('%%bash')", "ipython3")
