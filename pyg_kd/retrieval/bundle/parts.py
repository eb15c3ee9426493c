"""What the files of a bundle hold, part by part, and the checks of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pyg_kd.retrieval.bundle.tensor_files import Array
from pyg_kd.retrieval.fold_in import FoldIn
from pyg_kd.retrieval.ids import Ids
from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.seen import Seen
from pyg_kd.retrieval.tables import Table

Parts = dict[str, dict[str, Array]]

#: Numbers looked at at once.
BLOCK = 1 << 20


def parts_of(index: TopKIndex) -> tuple[dict[str, Any], Parts]:
    """The fields of a manifest that describe an index, and the arrays of its files."""
    parts: Parts = {
        "users": index.x_user.arrays(),
        "items": index.x_item.arrays(),
        "user_ids": index.users.arrays(),
        "item_ids": index.items.arrays(),
        "seen": dict(index.seen.pattern._asdict()) if index.has_seen else {},
        "popularity": {} if index.popularity is None else {"popularity": index.popularity},
        "fold_in": dict(index.fold_in.arrays),
    }
    fields = {
        "tables": {"user": _told_of(index.x_user), "item": _told_of(index.x_item)},
        "ids": {"user": index.users.kind, "item": index.items.kind},
        "interactions": len(index.seen.pattern.col) if index.has_seen else None,
        "fold_in": {
            "kind": index.fold_in.kind,
            "settings": dict(index.fold_in.settings),
            "arrays": sorted(index.fold_in.arrays),
            "report": index.fold_in.report,
        },
    }
    return fields, {part: arrays for part, arrays in parts.items() if arrays}


def arguments_of(
    fields: Mapping[str, Any], parts: Mapping[str, Mapping[str, Array]], *, verify: bool
) -> dict[str, Any]:
    r"""The arguments of a :class:`~pyg_kd.retrieval.TopKIndex`, of the parts of a bundle.

    Args:
        fields: The manifest.
        parts: Arrays by part, which are not copied.
        verify: Whether to look at every value. What keeps indices in range is always looked at.

    Raises:
        ValueError: If arrays are missing, don't fit the manifest or each other, hold what is not
            finite, or would lead out of a table.
        TypeError: If arrays are not of the right kind.
    """
    users, items = (
        _table(fields["tables"][node_type], parts[part])
        for node_type, part in (("user", "users"), ("item", "items"))
    )
    if verify:
        for part in ("users", "items", "popularity", "fold_in"):
            _require_finite(part, parts.get(part, {}))
    arguments: dict[str, Any] = {"x_user": users, "x_item": items}
    for node_type, size in (("user", len(users)), ("item", len(items))):
        arrays = parts.get(f"{node_type}_ids", {})
        ids = Ids.from_arrays(fields["ids"][node_type], arrays, size, node_type)
        if verify:
            _require_sound_ids(ids, node_type)
        arguments[f"{node_type}_ids"] = ids
    if fields["interactions"] is not None:
        arguments["seen"] = _seen(parts["seen"], fields["interactions"], len(users), len(items))
    if "popularity" in parts:
        arguments["popularity"] = _popularity(parts["popularity"], len(items))
    if (told := fields["fold_in"]) is not None:
        arrays = parts.get("fold_in", {})
        if sorted(arrays) != told["arrays"]:
            raise ValueError(f"fold_in has other arrays than {told['arrays']} (got {[*arrays]})")
        arguments["fold_in"] = FoldIn(
            told["kind"], items, settings=told["settings"], arrays=arrays, report=told["report"]
        )
    return arguments


def _told_of(table: Table) -> dict[str, Any]:
    return {"rows": len(table), "dim": table.dim, "dtype": table.dtype, "bytes": table.nbytes}


def _table(told: Mapping[str, Any], arrays: Mapping[str, Array]) -> Table:
    table = Table.from_arrays(told["dtype"], arrays, told["dim"])
    if _told_of(table) != told:
        raise ValueError(f"a table of {_told_of(table)} is none of {dict(told)}")
    return table


def _seen(arrays: Mapping[str, Array], interactions: int, num_users: int, num_items: int) -> Seen:
    if arrays.keys() != {"ptr", "col"} or arrays["col"].shape != (interactions,):
        raise ValueError(f"seen items must be 'ptr' and 'col' of {interactions} interactions")
    if arrays["ptr"].shape != (num_users + 1,):
        raise ValueError(f"'ptr' of seen items must be of {num_users} users")
    return Seen(arrays["ptr"], arrays["col"], num_items)


def _popularity(arrays: Mapping[str, Array], num_items: int) -> Array:
    found = arrays.get("popularity")
    if found is None or found.dtype != np.float32 or found.shape != (num_items,):
        raise ValueError(f"the popularity must be one array, float32 [{num_items}]")
    return found


def _require_finite(part: str, arrays: Mapping[str, Array]) -> None:
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            flat = array.reshape(-1)
            for start in range(0, len(flat), BLOCK):
                if not np.isfinite(flat[start : start + BLOCK]).all():
                    raise ValueError(f"{name!r} of {part} must be finite")


def _require_sound_ids(ids: Ids, name: str) -> None:
    """Raise ``ValueError`` unless ids are distinct, sorted as told, and text is UTF-8."""
    arrays = ids.arrays()
    if ids.kind == "position":
        return
    order = arrays["order"]
    if len(order) and not np.bincount(order, minlength=len(order)).all():
        raise ValueError(f"'order' of {name} ids must name every row once")
    if ids.kind == "text":
        _require_text(arrays["bytes"], arrays["offsets"], name)
        values = arrays["hashes"]
    else:
        values = arrays["values"][order] if len(order) else arrays["values"]
    if (values[1:] < values[:-1]).any():
        raise ValueError(f"{name} ids must be sorted by their 'order'")
    for place in np.flatnonzero(values[1:] == values[:-1]).tolist():
        one, other = ids.take(order[place : place + 2]) if ids.kind == "text" else (0, 0)
        if one == other:  # different texts may have one hash
            raise ValueError(f"{name} ids must be distinct")


def _require_text(text: Array, offsets: Array, name: str) -> None:
    text.tobytes().decode()
    first = text[offsets[:-1][offsets[:-1] < offsets[1:]]]
    if ((first & 0xC0) == 0x80).any():  # a byte that continues a character
        raise ValueError(f"'offsets' of {name} ids cut a character")
