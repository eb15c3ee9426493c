"""Checks of knowledge: vectors are finite, and lists hold existing ids."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary
from torch_geometric.data import HeteroData

from pyg_kd.functional.sampling import row_blocks
from pyg_kd.graph import check_ids, on_numpy
from pyg_kd.typing import ITEM, USER

#: Lists by name: their number of dimensions, and the node type of the ids they hold.
LISTS = {
    "teacher_items": (2, ITEM),
    "teacher_users": (2, USER),
    "teacher_trajectory": (4, ITEM),
    "teacher_observed": (4, ITEM),
}

#: What lists of items may carry for each of their places.
PLACES = ("teacher_scores", "teacher_confidence")

#: The users that lists of items are of, where these are not all, int64 ``[n]``, ascending.
ROWS = "teacher_rows"

#: Entries checked at once: few on a CPU, to stay in its caches, many where checks synchronise.
BLOCK_ENTRIES = 2**16
BLOCKS_AT_ONCE = 64

#: Tensors found valid, with their version and the numbers of nodes checked against.
_VALID = WeakTensorKeyDictionary()


def check_value(
    graph: HeteroData, node_type: str, name: str, value: object, label: str | None = None
) -> None:
    r"""Check one tensor of knowledge from any source, since kernels do not check ids again.

    A tensor is scanned once, and again after an in-place change. One that PyTorch does not count,
    through ``.data`` or a NumPy array of the same memory, goes unnoticed.

    Args:
        graph: The graph, for its numbers of nodes.
        node_type: The node type of the rows.
        name: ``"teacher_x"``, :data:`ROWS`, or a name from :data:`LISTS` or :data:`PLACES`.
        value: The tensor.
        label: Its name in messages; ``graph[node_type].name`` by default.

    Raises:
        ValueError: If the dtype, the shape or a value is invalid.
    """
    label = f"'graph[{node_type!r}].{name}'" if label is None else label
    if not isinstance(value, Tensor):
        found = "nothing" if value is None else type(value).__name__
        raise ValueError(f"{label} must be a tensor (got {found})")
    if value.requires_grad:
        raise ValueError(
            f"{label} must not require gradients, which training would fill: detach() it"
        )
    sizes = int(graph[USER].num_nodes or 0), int(graph[ITEM].num_nodes or 0)
    # Tensors made in inference mode have no version, so they are checked every time.
    rows = _rows(graph, node_type, name, sizes[node_type == ITEM])
    key = None if value.is_inference() else (value._version, *sizes, rows, node_type, name)
    if key is not None and _VALID.get(value) == key:
        return
    if name == ROWS:
        check_rows(value, rows, label)
    elif name in LISTS:
        dim, other = LISTS[name]
        _check_shape(value, dim, rows, label)
        if value.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"{label} must be int32 or int64 (got {value.dtype})")
        check_lists(value, sizes[other == ITEM], label)
    else:
        _check_shape(value, 2, rows, label)
        if not value.is_floating_point():
            raise ValueError(f"{label} must be floating point (got {value.dtype})")
        check_finite(value, label)
        if name == "teacher_confidence":
            check_confidence(value, label)
    if key is not None:
        _VALID[value] = key


def _rows(graph: HeteroData, node_type: str, name: str, size: int) -> int:
    """How many rows a tensor of knowledge has."""
    some = graph[node_type].get(ROWS) if name in ("teacher_items", *PLACES) else None
    return size if some is None else len(some)


@torch.library.custom_op("pyg_kd::check_rows", mutates_args=())
def check_rows(rows: Tensor, size: int, label: str) -> Tensor:
    """Raise ``ValueError`` unless ``rows`` are int64 ``[n]``, ascending ids below ``size``."""
    if rows.dim() != 1 or rows.dtype != torch.int64:
        raise ValueError(
            f"{label} must be int64 of one dimension (got {rows.dtype} {list(rows.shape)})"
        )
    check_ids(label.strip("'"), rows, size)
    if bool((rows[1:] <= rows[:-1]).any()):
        raise ValueError(f"{label} must ascend, each id once (got {rows.tolist()!s:.40})")
    return rows.new_empty(0)


@check_rows.register_fake
def _(rows: Tensor, size: int, label: str) -> Tensor:
    return rows.new_empty(0)


def _check_shape(value: Tensor, dim: int, rows: int, label: str) -> None:
    if value.layout != torch.strided:
        raise ValueError(f"{label} must be dense (got {value.layout})")
    if value.dim() != dim:
        raise ValueError(f"{label} must have {dim} dimensions (got shape {list(value.shape)})")
    if value.size(0) != rows:
        raise ValueError(f"{label} has {value.size(0)} rows for {rows} nodes")
    if value.size(-1) == 0:
        raise ValueError(f"{label} must have at least one column (got shape {list(value.shape)})")


# Data-dependent control flow: an opaque custom op, so that fake tensors pass.
@torch.library.custom_op("pyg_kd::check_lists", mutates_args=())
def check_lists(lists: Tensor, size: int, label: str) -> Tensor:
    r"""Raise ``ValueError`` unless lists hold distinct ids below ``size``, padded with -1.

    Args:
        lists: int32 or int64 ``[..., K]``.
        size: The number of ids.
        label: Name of the lists in messages.

    Returns:
        An empty tensor, since a custom op must return something.

    Raises:
        ValueError: If an id is out of range or repeated, or padding is not at the end.

    Example:
        >>> check_lists(torch.tensor([[2, 0, -1], [1, 3, -1]]), 3, "'lists'")
        Traceback (most recent call last):
        ValueError: 'lists' must hold ids in 0..2, or -1 for none (got 3 in row 1)
    """
    empty = lists.new_empty(0)
    if lists.numel() == 0:
        return empty
    width = lists.size(-1)
    flat, per_row = lists.reshape(-1, width), lists[0].numel() // width
    entries = BLOCK_ENTRIES * (1 if flat.device.type == "cpu" else BLOCKS_AT_ONCE)
    for rows in row_blocks(len(flat), width, entries, flat.device):
        first = int(rows[0])
        for fault, values, wrong in _faults(flat[first : first + len(rows)], size):
            if bool(wrong.any()):
                row, place = wrong.nonzero()[0].tolist()
                at = f"in row {(first + row) // per_row}"
                raise ValueError(f"{label} {fault} (got {int(values[row, place])} {at})")
    return empty


@check_lists.register_fake
def _(lists: Tensor, size: int, label: str) -> Tensor:
    return lists.new_empty(0)


def _faults(block: Tensor, size: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Possible faults of lists ``[n, K]``: the message, the values, and where they are wrong."""
    ordered = sort_rows(block)
    low, high = int(ordered[:, 0].min()), int(ordered[:, -1].max())
    if low < -1 or high >= size:
        fault = f"must hold ids in 0..{size - 1}, or -1 for none"
        yield fault, block, (block < -1) | (block >= size)
    if low < 0:
        head, tail = block[:, :-1], block[:, 1:]
        yield "must be padded with -1 at the end only", tail, (head < 0) & (tail >= 0)
    head, tail = ordered[:, :-1], ordered[:, 1:]
    repeated = head == tail
    yield "must not repeat an id", tail, repeated if low >= 0 else repeated & (tail >= 0)


def sort_rows(block: Tensor) -> Tensor:
    """Every row sorted; on the CPU by NumPy, which is thirty times as fast."""
    if on_numpy(block):
        return torch.as_tensor(np.sort(block.numpy(), axis=1), device=block.device)
    return block.sort(1).values


@torch.library.custom_op("pyg_kd::check_finite", mutates_args=())
def check_finite(x: Tensor, label: str) -> Tensor:
    """Raise ``ValueError``, naming the row, if vectors ``[n, d]`` hold NaN or infinity."""
    # Any NaN or infinity shows in the minimum or maximum: one pass is enough.
    if x.numel() and not all(bool(v.isfinite()) for v in torch.aminmax(x)):
        row, place = (~x.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"{label} must be finite (got {float(x[row, place])} in row {row})")
    return x.new_empty(0)


@check_finite.register_fake
def _(x: Tensor, label: str) -> Tensor:
    return x.new_empty(0)


@torch.library.custom_op("pyg_kd::check_confidence", mutates_args=())
def check_confidence(x: Tensor, label: str) -> Tensor:
    """Raise ``ValueError`` if confidence ``[n, K]`` is negative, or 0 everywhere."""
    low, high = torch.aminmax(x) if x.numel() else (x.new_zeros(()), x.new_ones(()))
    if low < 0:
        row, place = (x < 0).nonzero()[0].tolist()
        raise ValueError(f"{label} must be 0 or more (got {float(x[row, place])} in row {row})")
    if high == 0:
        raise ValueError(f"{label} must not be 0 everywhere: no place of a list would count")
    return x.new_empty(0)


@check_confidence.register_fake
def _(x: Tensor, label: str) -> Tensor:
    return x.new_empty(0)
