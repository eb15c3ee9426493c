"""``room``: the reference of a subpackage, from its docstrings.

A table with one line for every exported name, then their docstrings. A name that the package above
exports too is described there; here the table leads to it. With ``:named:`` the names are those of
the option, for modules whose other names are nobody's business.
"""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType
from typing import Any, ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

HIDDEN = ("__version__",)


def exported(module: ModuleType) -> list[str]:
    """The names of a module that are described: functions, classes, data, no modules."""
    names = [name for name in module.__all__ if name not in HIDDEN]
    return [name for name in names if not inspect.ismodule(getattr(module, name))]


def above(module: ModuleType, entry: str) -> bool:
    """Whether the package above exports the same object."""
    parent, _, _ = module.__name__.rpartition(".")
    if parent in ("", "pyg_kd"):
        return False
    package = importlib.import_module(parent)
    return entry in package.__all__ and getattr(package, entry) is getattr(module, entry)


class Room(SphinxDirective):
    """The directive: ``{room} pyg_kd.distill``."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"named": str.split}

    def run(self) -> list[nodes.Node]:
        """The nodes of the table and of the docstrings."""
        name = self.arguments[0]
        module = importlib.import_module(name)
        entries = self.options.get("named") or exported(module)
        lines = [f".. py:module:: {name}", "", *table(name, entries), ""]
        for entry in entries:
            if name != "pyg_kd" and not above(module, entry):
                lines += described(name, module, entry)
        return self.parse_text_to_nodes(StringList(lines, name), allow_section_headings=False)


def table(name: str, entries: list[str]) -> list[str]:
    """A line for every name, with the first sentence of its docstring."""
    rows = [f"   {entry}" for entry in entries]
    return [f".. currentmodule:: {name}", "", ".. autosummary::", "   :nosignatures:", "", *rows]


def described(name: str, module: ModuleType, entry: str) -> list[str]:
    """The directive that renders one docstring."""
    found = getattr(module, entry)
    if inspect.isclass(found):
        return [f".. autoclass:: {name}.{entry}", "   :members:", ""]
    kind = "autofunction" if callable(found) and inspect.isroutine(found) else "autodata"
    return [f".. {kind}:: {name}.{entry}", ""]


def setup(app: Sphinx) -> dict[str, Any]:
    """Offer the directive."""
    app.add_directive("room", Room)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
