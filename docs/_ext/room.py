"""``room``: the reference of a subpackage, from its docstrings.

A table with one line for every exported name, then their docstrings. A name that the package above
exports too is described there; here the table leads to it. With ``:named:`` the names are those of
the option, for modules whose other names are nobody's business. With ``:below:`` a section follows
for every subpackage that exports more, but for those named by the option.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from types import ModuleType
from typing import Any, ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

HIDDEN = ("__version__",)
# It ends at a full stop, not at that of a reference's title or of a formula.
SENTENCE = re.compile(r"(?:`[^`]*`_?|[^`])*?\.(?= [A-Z`]|$)")


def exported(module: ModuleType) -> list[str]:
    """The names of a module that are described: functions, classes, data, no modules."""
    names = [name for name in module.__all__ if name not in HIDDEN]
    return [name for name in names if not inspect.ismodule(getattr(module, name))]


def above(module: ModuleType, entry: str) -> bool:
    """Whether a package above exports the same object."""
    parent, _, _ = module.__name__.rpartition(".")
    if parent in ("", "pyg_kd"):
        return False
    package = importlib.import_module(parent)
    same = getattr(package, entry, None) is getattr(module, entry)
    return (entry in package.__all__ and same) or above(package, entry) if same else False


def words(argument: str | None) -> list[str]:
    """The words of an option that may have none."""
    return (argument or "").split()


class Room(SphinxDirective):
    """The directive: ``room:: pyg_kd.distill``."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"named": str.split, "below": words}

    def run(self) -> list[nodes.Node]:
        """The nodes of the table and of the docstrings."""
        name = self.arguments[0]
        module = importlib.import_module(name)
        entries = self.options.get("named") or exported(module)
        lines = [f".. py:module:: {name}", "", *table(module, entries), ""]
        for entry in entries:
            if name != "pyg_kd" and not above(module, entry):
                lines += described(name, module, entry)
        found = self.parse_text_to_nodes(StringList(lines, name), allow_section_headings=False)
        if "below" in self.options:
            found += [self.section(part) for part in below(module, self.options["below"])]
        return found

    def section(self, name: str) -> nodes.Node:
        """A subpackage, with its docstring and its names."""
        module = importlib.import_module(name)
        first = (inspect.getdoc(module) or "").split("\n\n")[0]
        lines = [first, "", f".. room:: {name}"]
        section = nodes.section(ids=[nodes.make_id(name)])
        section += nodes.title("", "", nodes.literal("", name))
        section += self.parse_text_to_nodes(StringList(lines, name))
        self.state.document.note_implicit_target(section, section)
        return section


def below(module: ModuleType, left_out: list[str]) -> list[str]:
    """The packages below that export what the packages above don't."""
    prefix = f"{module.__name__}."
    packages = [m.name for m in pkgutil.walk_packages(module.__path__, prefix) if m.ispkg]
    skipped = tuple(f"{prefix}{name}" for name in left_out)
    found = [importlib.import_module(name) for name in packages if not name.startswith(skipped)]
    return [part.__name__ for part in found if any(
        not above(part, entry) for entry in getattr(part, "__all__", ()))]  # fmt: skip


def table(module: ModuleType, entries: list[str]) -> list[str]:
    """A line for every name, with the first sentence of its docstring."""
    lines = [".. list-table::", "   :widths: auto", "   :class: names", ""]
    for entry in entries:
        found = getattr(module, entry)
        lines.append(f"   * - :py:obj:`{entry} <{module.__name__}.{entry}>`")
        lines.append(f"     - {first_sentence(found, entry)}")
    return lines


def first_sentence(found: object, entry: str) -> str:
    """The first sentence of a docstring, or of the comment above a constant."""
    text = inspect.getdoc(found) if documented(found) else "\n".join(comment(found, entry))
    paragraph = " ".join((text or "").split("\n\n")[0].split())
    return SENTENCE.match(paragraph)[0] if SENTENCE.match(paragraph) else paragraph


def documented(found: object) -> bool:
    """Whether the docstring is the object's own: a constant has that of its type."""
    return inspect.isclass(found) or inspect.isroutine(found)


def described(name: str, module: ModuleType, entry: str) -> list[str]:
    """The directive that renders one docstring."""
    found = getattr(module, entry)
    if inspect.isclass(found):
        options = ["   :members:"] + ["   :show-inheritance:"] * (found.__bases__ != (object,))
        return [f".. autoclass:: {name}.{entry}", *options, ""]
    if inspect.isroutine(found):
        return [f".. autofunction:: {name}.{entry}", ""]
    return [
        f".. py:data:: {entry}",
        "",
        *(f"   {line}" for line in comment(found, entry)),
        "",
    ]


def comment(found: object, entry: str) -> list[str]:
    """The ``#:`` lines above the constant, in whichever module of the package they stand."""
    for module in [name for name in sorted(sys.modules) if name.startswith("pyg_kd.")]:
        if getattr(sys.modules[module], entry, None) is found:
            lines = ModuleAnalyzer.for_module(module).find_attr_docs().get(("", entry))
            if lines:
                return lines
    return [f"``{found!r}``"] if isinstance(found, (str, tuple)) else []


def says_nothing(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool | None:
    """Skip the fields of named tuples, which the class describes."""
    return True if str(inspect.getdoc(obj)).startswith("Alias for field number") else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Offer the directive."""
    app.add_directive("room", Room)
    app.connect("autodoc-skip-member", says_nothing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
