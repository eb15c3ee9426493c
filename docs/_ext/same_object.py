"""A name leads to the page of its object, whichever of its names is used.

``pyg_kd.compress`` and ``pyg_kd.training.compress`` are one function, described once; a docstring
inside of a subpackage may use the bare name. What the package has but doesn't export stays plain
text, and so do types in signatures that other projects document. Anything else is a warning.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from itertools import takewhile
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
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


def internal(target: str) -> bool:
    """Whether the package has such a name, exported or not."""
    if target.startswith("pyg_kd"):
        return imported(target) is not None
    first = target.split(".")[0]
    homes = [module for name, module in list(sys.modules.items()) if name.startswith("pyg_kd")]
    found = [imported(f"{home.__name__}.{target}") for home in homes if hasattr(home, first)]
    return any(entry is not None for entry in found)


def described_names(env: BuildEnvironment, target: str) -> list[str]:
    """The names under which the pages describe what ``target`` means, shortest first."""
    objects = env.domains.python_domain.objects
    last = target.rsplit(".", 1)[-1]
    named = [name for name in objects if name.rsplit(".", 1)[-1] == last]
    if target.startswith("pyg_kd"):
        wanted = imported(target)
        named = [name for name in named if wanted is not None and imported(name) is wanted]
    else:
        named = [name for name in named if name == target or name.endswith(f".{target}")]
    described = [name for name in named if not objects[name].aliased]
    return sorted(described or named, key=len)


def shared(name: str, room: str) -> int:
    """How many packages a name has in common with a room."""
    pairs = zip(name.split("."), room.split("."), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


class Disambiguate(SphinxPostTransform):
    """A bare name that several rooms use means that of the nearest room."""

    default_priority = 5  # before references are resolved

    def run(self, **kwargs: Any) -> None:
        """Give such names their room."""
        for node in self.document.findall(pending_xref):
            room, target = node.get("py:module"), node.get("reftarget", "")
            if node.get("refdomain") == "py" and room and "." not in target:
                names = described_names(self.env, target)
                if len(names) > 1:
                    node["reftarget"] = max(names, key=lambda name: shared(name, room))


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.Element | None:
    """A reference for a name that isn't described under just that name, or its plain text."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].lstrip("~.")
    names = described_names(env, target)
    if names:
        entry = env.domains.python_domain.objects[names[0]]
        return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content)
    written = isinstance(content, nodes.literal)  # by an author, not by a signature
    return content if internal(target) or not written else None


def no_type_in_front(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """``#: The limit: ten.`` is a sentence, and "The limit" no type, as napoleon would think."""
    if what in ("attribute", "data", "property") and lines:
        lines[:0] = ["..", ""]  # an empty comment has no colon


def setup(app: Sphinx) -> dict[str, Any]:
    """Ask here what the Python domain doesn't find."""
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", no_type_in_front, priority=400)
    app.add_post_transform(Disambiguate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
