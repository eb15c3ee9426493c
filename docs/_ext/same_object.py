"""A name leads to the page of its object, whichever of its names is used.

``pyg_kd.compress`` and ``pyg_kd.training.compress`` are one function, described once; a docstring
inside of a subpackage may use the bare name.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


@cache
def imported(target: str) -> Any:
    """The object of a dotted name, or ``None``."""
    parts = target.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part, None)
        return found
    return None


def described_names(env: BuildEnvironment, target: str) -> list[str]:
    """The names under which the pages describe what ``target`` means."""
    objects = env.domains.python_domain.objects
    last = target.rsplit(".", 1)[-1]
    named = [name for name in objects if name.rsplit(".", 1)[-1] == last]
    if not target.startswith("pyg_kd"):
        return [name for name in named if name.endswith(f".{target}")]
    wanted = imported(target)
    return [name for name in named if wanted is not None and imported(name) is wanted]


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.Element | None:
    """A reference for a name of the package that isn't described under just that name."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].lstrip("~.")
    names = described_names(env, target)
    if not names:
        return None
    entry = env.domains.python_domain.objects[min(names, key=len)]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content)


def setup(app: Sphinx) -> dict[str, Any]:
    """Ask here what the Python domain doesn't find."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
