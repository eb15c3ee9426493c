"""Look-up, scoring, mask and top-k as an ONNX graph."""

from __future__ import annotations

import os
from typing import Any, Literal

import numpy as np

from pyg_kd.checks import require_choice
from pyg_kd.files import atomic_write
from pyg_kd.retrieval.export.onnx_graph import OPSET, Graph
from pyg_kd.retrieval.extras import need
from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.tables import ZERO, Table

#: A version of the format that runtimes since 2023 read.
IR_VERSION = 8

#: What Protocol Buffers can hold in one message.
LARGEST = 2**31 - 2**16


def write_onnx(
    index: TopKIndex,
    path: str | os.PathLike[str],
    *,
    by: Literal["user", "vector"] = "user",
    exclude_seen: bool = True,
) -> None:
    r"""Write an index as an ONNX model, opset 18, which runs without PyTorch and this package.

    Inputs, of which all but the first have defaults:

    * ``users``, rows of users, int64 ``[n]``; a row below 0 gets an empty list. Or, by vector,
      ``queries``, float32 ``[n, d]``.
    * ``k``, the length of the lists, int64 ``[1]``, 20.
    * ``hidden``, pairs ``(place in the request, row of an item)`` that are left out, int64
      ``[m, 2]``, none; pairs with a number below 0 are ignored.
    * ``exclude_seen``, whether to leave out what users have seen, bool ``[1]``, true. Only by user,
      and only where the index knows of seen items and ``exclude_seen`` is not switched off.

    Outputs are ``items``, rows of items, int64 ``[n, k]``, padded with -1, and ``scores``, float32
    ``[n, k]``, padded with ``-inf``. Equal scores come in the order of the rows. Which original id
    a row has is told by :func:`write_parquet`.

    ``onnxruntime`` warns of inputs with defaults, which is harmless.

    Tables stay at their precision in the file, and are widened when the model runs. Interactions
    added since, items out of stock and named sets are not part of it: give them as ``hidden``.

    Args:
        index: The index.
        path: The file, which is replaced as a whole.
        by: Whether a request names users or gives their vectors.
        exclude_seen: Whether the file holds what users have seen.

    Raises:
        ImportError: If ``onnx`` is not installed.
        ValueError: If the tables are larger than 2 GB, which is the limit of the format.

    Example:
        >>> import onnxruntime
        >>> from tempfile import TemporaryDirectory
        >>> index = TopKIndex(np.eye(2, 3), np.eye(3), seen=([0, 1, 1], [0]))
        >>> with TemporaryDirectory() as folder:
        ...     write_onnx(index, f"{folder}/student.onnx")
        ...     session = onnxruntime.InferenceSession(f"{folder}/student.onnx")
        >>> session.run(["items"], {"users": np.array([0, 1]), "k": np.array([2])})[0].tolist()
        [[1, 2], [1, 0]]
    """
    require_choice(("user", "vector"), by=by)
    need("onnx", "onnx", "write_onnx")
    seen = index.seen.pattern
    with_seen = exclude_seen and by == "user" and index.has_seen
    size = index.x_item.nbytes + (index.x_user.nbytes if by == "user" else 0)
    size += seen.ptr.nbytes + seen.col.nbytes if with_seen else 0
    if size > LARGEST:
        raise ValueError(f"'index' must be below 2 GB for ONNX (got {size} bytes): choose int8")
    graph = Graph("pyg_kd_top_k")
    if by == "user":
        users = graph.input("users", np.int64, ["n"])
        known = graph.add("GreaterOrEqual", users, graph.constant([0]))
        users = graph.add("Max", users, graph.constant([0]))
        queries = _rows(graph, index.x_user, "x_user", users)
    else:
        known, queries = None, graph.input("queries", np.float32, ["n", index.dim])
    scores = graph.add("Gemm", queries, _rows(graph, index.x_item, "x_item"), transB=1)
    hidden = _hidden(graph)
    if with_seen:
        seen_pairs = _seen(graph, users, seen.ptr, seen.col)
        hidden = graph.add("Concat", hidden, seen_pairs, axis=0)
    scores = _masked(graph, scores, hidden)
    _lists(graph, scores, known, index.num_items)
    model = graph.model(IR_VERSION, _metadata(index, by))
    with atomic_write(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def _rows(graph: Graph, table: Table, name: str, index: str | None = None) -> str:
    """Some rows of a table, or all, widened to float32."""

    def taken(array: np.ndarray[Any, Any], what: str) -> str:
        held = graph.constant(array, f"{name}.{what}")
        return held if index is None else graph.add("Gather", held, index, axis=0)

    values = taken(table.values, "values")
    if table.scale is None:
        return values if table.dtype == "float32" else graph.cast(values, np.float32)
    if table.dtype == "int4":
        values = _unpacked(graph, values, table.dim)
    scale = graph.cast(taken(table.scale, "scale"), np.float32)
    scale = graph.add("Mul", scale, graph.constant(np.float32(table.unit), f"{name}.unit"))
    return graph.add("DequantizeLinear", values, scale, axis=0)


def _unpacked(graph: Graph, packed: str, dim: int) -> str:
    """The two values of each byte, int8 ``[n, d]``."""
    halves = [
        graph.add("BitwiseAnd", packed, graph.constant(np.array([15], np.uint8))),
        graph.add("BitShift", packed, graph.constant(np.array([4], np.uint8)), direction="RIGHT"),
    ]
    last = graph.constant([2])
    pairs = graph.add("Concat", *(graph.add("Unsqueeze", h, last) for h in halves), axis=2)
    flat = graph.add("Reshape", pairs, graph.constant([0, -1]))
    codes = graph.add(
        "Slice", flat, graph.constant([0]), graph.constant([dim]), graph.constant([1])
    )
    centred = graph.add(
        "Sub", graph.cast(codes, np.int32), graph.constant(np.array([ZERO], np.int32))
    )
    return graph.cast(centred, np.int8)


def _hidden(graph: Graph) -> str:
    """The pairs of the request without those that are padding."""
    pairs = graph.input("hidden", np.int64, ["m", 2], default=np.empty((0, 2), np.int64))
    least = graph.add("ReduceMin", pairs, graph.constant([1]), keepdims=0)
    valid = graph.add("GreaterOrEqual", least, graph.constant([0]))
    return graph.add("Compress", pairs, valid, axis=0)


def _seen(graph: Graph, users: str, ptr: np.ndarray[Any, Any], col: np.ndarray[Any, Any]) -> str:
    """Pairs of places in the request and seen items, int64 ``[m, 2]``."""
    wanted = graph.input("exclude_seen", np.bool_, [1], default=np.array([True]))
    start = graph.add("Gather", graph.constant(ptr[:-1], "seen.start"), users)
    degree = graph.add("Gather", graph.constant(np.diff(ptr), "seen.degree"), users)
    degree = graph.add("Mul", degree, graph.cast(wanted, np.int64))
    # A column for each place up to the longest history of the request.
    most = graph.add(
        "ReduceMax", graph.add("Concat", degree, graph.constant([0]), axis=0), keepdims=0
    )
    zero, one = graph.constant(np.int64(0)), graph.constant(np.int64(1))
    places = graph.add("Range", zero, most, one)
    inside = graph.add("Less", places, graph.add("Unsqueeze", degree, graph.constant([1])))
    pairs = graph.add("Transpose", graph.add("NonZero", inside), perm=[1, 0])
    request, place = graph.split(pairs, axis=1)
    entry = graph.add("Add", graph.add("Gather", start, request), place)
    items = graph.cast(graph.add("Gather", graph.constant(col, "seen.col"), entry), np.int64)
    return graph.add("Concat", request, items, axis=1)


def _masked(graph: Graph, scores: str, pairs: str) -> str:
    """The scores with those of some pairs at ``-inf``."""
    count = graph.add("Shape", pairs, start=0, end=1)
    nothing = graph.filled(count, np.float32(-np.inf))
    return graph.add("ScatterND", scores, pairs, nothing)


def _lists(graph: Graph, scores: str, known: str | None, num_items: int) -> None:
    """The best items, padded; lists of unknown users consist of padding."""
    k = graph.input("k", np.int64, [1], default=np.array([20]))
    taken = graph.add("Min", k, graph.constant([num_items]))
    values, rows = graph.add_several("TopK", 2, scores, taken, axis=1, largest=1, sorted=1)
    nothing, none = graph.constant(np.float32(-np.inf)), graph.constant(np.int64(-1))
    listed = graph.add("Greater", values, nothing)
    if known is not None:
        listed = graph.add("And", listed, graph.add("Unsqueeze", known, graph.constant([1])))
        values = graph.add("Where", listed, values, nothing)
    rows = graph.add("Where", listed, rows, none)
    more = graph.add("Concat", graph.constant([0, 0, 0]), graph.add("Sub", k, taken), axis=0)
    graph.output("items", np.int64, ["n", "k"], graph.add("Pad", rows, more, none))
    graph.output("scores", np.float32, ["n", "k"], graph.add("Pad", values, more, nothing))


def _metadata(index: TopKIndex, by: str) -> dict[str, str]:
    told = {"pyg_kd.by": by, "pyg_kd.dtype": index.dtype, "pyg_kd.opset": str(OPSET)}
    return told | {f"pyg_kd.{k}": str(index.info[k]) for k in ("name", "sha256") if k in index.info}
