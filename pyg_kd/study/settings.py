"""Settings: values by dotted names, and how they change what they are applied to."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any

Setting = dict[str, Any]


def settings_of(search: Mapping[str, Any] | list[dict[str, Any]], place: str) -> list[Setting]:
    r"""The settings that a search lists: all combinations of its values, or the listed ones.

    Args:
        search: What a row says of it.
        place: Where it stands, for the message.

    Raises:
        ValueError: If a value is no list.

    Example:
        >>> settings_of({"weight": [1, 2], "trainer": {"lr": [0.1]}}, "DE")
        [{'weight': 1, 'trainer.lr': 0.1}, {'weight': 2, 'trainer.lr': 0.1}]
    """
    if isinstance(search, list):
        return [flat(setting) for setting in search] or [{}]
    values = flat(search)
    for name, listed in values.items():
        if not isinstance(listed, list) or not listed:
            raise ValueError(f"{place}.search.{name} must be a list of values (got {listed!r})")
    return [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]


def is_space(value: object) -> bool:
    """Whether a value is a range that Optuna searches."""
    return isinstance(value, Mapping) and {"low", "high"} <= value.keys()


def flat(given: Mapping[str, Any], above: str = "") -> Setting:
    """Nested values by dotted names; ranges stay whole."""
    found: Setting = {}
    for name, value in given.items():
        if isinstance(value, Mapping) and value and not is_space(value):
            found |= flat(value, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = value
    return found


def applied(tree: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    r"""A copy of a row's tree with the values of a setting.

    ``weight`` and ``options`` belong to the row's only component.

    Args:
        tree: Lists and mappings, a row's ``components`` among them.
        setting: Values by dotted names.

    Raises:
        ValueError: If a name leads nowhere.
    """
    found: dict[str, Any] = copy.deepcopy(dict(tree))
    for name, value in setting.items():
        path = name.split(".")
        if path[0] in ("weight", "options") and "components" in found:
            if len(found["components"]) != 1:
                raise ValueError(
                    f"{name!r} needs a row of one method (got {len(found['components'])}): "
                    "say components.0.weight, or scale for all weights"
                )
            path = ["components", "0", *path]
        _set(found, path, value, name)
    return found


def _set(tree: Any, path: list[str], value: Any, name: str) -> None:
    for part in path[:-1]:
        if isinstance(tree, list):
            if not part.isdigit() or int(part) >= len(tree):
                raise ValueError(f"{name!r} leads nowhere: there are {len(tree)} components")
            tree = tree[int(part)]
        elif isinstance(tree, dict):
            tree = tree.setdefault(part, {})
        else:
            raise ValueError(f"{name!r} leads nowhere: {part!r} is below {tree!r}")
    if not isinstance(tree, dict):
        raise ValueError(f"{name!r} leads nowhere")
    tree[path[-1]] = value
