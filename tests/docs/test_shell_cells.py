"""Cells of shell commands are shown as one types them."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest
from docutils import nodes
from docutils.utils import new_document

EXTENSIONS = str(Path(__file__).parents[2] / "docs" / "_ext")


@pytest.fixture
def shell_cells(monkeypatch):
    monkeypatch.syspath_prepend(EXTENSIONS)
    yield __import__("shell_cells")
    sys.modules.pop("shell_cells")


def test_the_magic_is_not_shown(shell_cells):
    tree = new_document("page")
    for text in ("%%bash\nls run\nhead -1 a.csv", "print('%%bash')"):
        tree += nodes.literal_block(text, text, language="ipython3")
    shell_cells.as_shell(None, tree)
    shell, python = tree.children
    assert (shell.astext(), shell["language"]) == ("ls run\nhead -1 a.csv", "bash")
    assert (python.astext(), python["language"]) == ("print('%%bash')", "ipython3")


def test_pieces_of_a_line_are_joined(shell_cells, monkeypatch):
    execution = shell_cells.execution
    monkeypatch.setattr(execution, "executenb", execution.executenb)  # undone after the test
    shell_cells.join_pieces()
    cell = nbformat.v4.new_code_cell("%%bash\nprintf 'stu'; sleep 0.2; echo dent; echo b")
    execution.executenb(nbformat.v4.new_notebook(cells=[cell]))
    (output,) = cell.outputs
    assert output.text == "student\nb\n"
