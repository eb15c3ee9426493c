r"""The key ``ablation`` of a study: rows for all subsets of a method's components.

.. code-block:: yaml

    ablation:
      components:                       # five at most
        DE: {method: DistillationExperts, search: {weight: [1e-3, 1e-2]}}
        RRD: {method: RelaxedRankingDistillation, search: {weight: [1e-3, 1e-2]}}
      controls: [shuffled, popularity, self]

makes the rows ``student alone``, ``DE``, ``RRD`` and ``DE + RRD``, and ``DE + RRD, shuffled
teacher`` and so on. Rows of several components take over the settings that were chosen for each.

Components that change a method rather than add one are merged into ``base``:

.. code-block:: yaml

    ablation:
      base: {method: SoftLabel, weight: 1.0, options: {own: ignore, target: rank}}
      base_name: soft labels
      components:
        own items masked: {options: {own: mask}}
        schedule: {trainer: {schedule: cosine, warmup: 0.05}}
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import combinations
from typing import Any

from pyg_kd.study.ablation.contrasts import MOST

Row = dict[str, Any]

ALONE = "student alone"
KEYS = ("components", "base", "base_name", "search", "controls")

#: What the methods of a row are called in a component.
METHOD = ("method", "weight", "options")


def expand_ablation(ablation: Mapping[str, Any]) -> dict[str, Row]:
    r"""The rows of a study that an ablation needs, by name.

    Args:
        ablation: ``components``, a mapping from names to parts of a row; ``base``, the row
            without components, a student alone by default, and ``base_name``; ``search``, what
            rows of several components search; ``controls``, names of controls, or a mapping from
            these to what their row has instead.

    Raises:
        ValueError: If a key is unknown, there are no components or more than five, or two set the
            same value.

    Example:
        >>> rows = expand_ablation({"components": {"DE": {"method": "DistillationExperts"},
        ...     "RRD": {"method": "RelaxedRankingDistillation"}}, "controls": ["shuffled"]})
        >>> [*rows]
        ['student alone', 'DE', 'RRD', 'DE + RRD', 'DE + RRD, shuffled teacher']
        >>> rows["DE + RRD"]
        {'parts': ['DE', 'RRD']}
    """
    components = _checked(ablation)
    base: Row = dict(ablation.get("base") or {})
    rows: dict[str, Row] = {}
    for subset, name in ablation_rows(ablation).items():
        chosen = {c: part for c, part in components.items() if c in subset}
        adds = not base.get("method") and all("method" in part for part in chosen.values())
        if len(chosen) > 1 and adds:
            rows[name] = {**base, "parts": [*chosen]}
        else:
            rows[name] = _merged(base, chosen)
        if len(chosen) > 1 and ablation.get("search"):
            rows[name]["search"] = ablation["search"]
    full = name
    for control, row in _controls(ablation).items():
        same = {key: value for key, value in rows[full].items() if key != "search"}
        found = _joined(same, row, f"control {control!r}", override=True)
        rows[control_row(full, control)] = {**found, "like": full, "knowledge": control}
    return rows


def ablation_rows(ablation: Mapping[str, Any]) -> dict[frozenset[str], str]:
    """The name of the row of each subset of the components, the smaller ones first."""
    names = [*_checked(ablation)]
    return {
        frozenset(chosen): " + ".join(chosen) or str(ablation.get("base_name") or ALONE)
        for size in range(len(names) + 1)
        for chosen in combinations(names, size)
    }


def control_rows(ablation: Mapping[str, Any]) -> dict[str, str]:
    """The name of the row of each control."""
    full = [*ablation_rows(ablation).values()][-1]
    return {control: control_row(full, control) for control in _controls(ablation)}


def control_row(full: str, control: str) -> str:
    """The name of the row of a control.

    Example:
        >>> control_row("DE + RRD", "none")
        'DE + RRD, no teacher'
    """
    return f"{full}, {'no' if control == 'none' else control} teacher"


def _checked(ablation: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The components."""
    if not isinstance(ablation, Mapping):
        raise ValueError(f"'ablation' must be a mapping (got {ablation!r:.80})")
    if unknown := [key for key in ablation if key not in KEYS]:
        raise ValueError(f"ablation: there is no {unknown[0]!r}: one of {', '.join(KEYS)}")
    found = ablation.get("components")
    if not isinstance(found, Mapping) or not 1 <= len(found) <= MOST:
        raise ValueError(f"ablation.components must be 1 to {MOST} by name (got {found!r:.80})")
    for name, part in found.items():
        if not isinstance(part, Mapping) or not part:
            raise ValueError(f"ablation.components.{name} must be part of a row (got {part!r:.80})")
        if not isinstance(name, str) or " + " in name or not name:
            raise ValueError(f"a component must have a name without ' + ' (got {name!r})")
    return dict(found)


def _controls(ablation: Mapping[str, Any]) -> dict[str, Row]:
    from pyg_kd.knowledge.controls import CONTROLS

    given = ablation.get("controls") or {}
    found = dict(given) if isinstance(given, Mapping) else {name: {} for name in given}
    for name in found:
        if name not in CONTROLS:
            raise ValueError(f"ablation.controls must be some of {CONTROLS} (got {name!r})")
    return {name: dict(row or {}) for name, row in found.items()}


def _merged(base: Row, chosen: Mapping[str, Mapping[str, Any]]) -> Row:
    """The base with some components; two of these must not set the same value."""
    together: Row = {}
    for name, part in chosen.items():
        together = _joined(together, part, f"component {name!r}", override=False)
    return _joined(base, together, "the base", override=True)


def _joined(row: Mapping[str, Any], part: Mapping[str, Any], who: str, *, override: bool) -> Row:
    """A row with the values of another part; lists are appended."""
    found = copy.deepcopy(dict(row))
    for key, value in part.items():
        if isinstance(value, Mapping) and isinstance(found.get(key), Mapping):
            found[key] = _joined(found[key], value, who, override=override)
        elif isinstance(value, list) and isinstance(found.get(key), list) and key == "components":
            found[key] = [*found[key], *copy.deepcopy(value)]
        elif key in found and found[key] != value and not override:
            raise ValueError(
                f"ablation: {who} sets {key!r} to {value!r:.80}, another one to {found[key]!r:.80}"
            )
        else:
            found[key] = copy.deepcopy(value)
    return found
