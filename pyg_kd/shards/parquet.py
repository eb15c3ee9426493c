"""Tables of lists as Parquet files whose bytes depend on nothing but what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: Ids of a kind: integers, or strings.
Ids = Array | Sequence[str]

#: Rows of a row group.
GROUP = 1 << 16


def arrow() -> Any:
    r"""Arrow's Python package.

    Raises:
        ImportError: If it is not installed, with the command that installs it.
    """
    try:
        import_module("pyarrow.parquet")
        return import_module("pyarrow")
    except ImportError as error:
        raise ImportError(
            "shards need pyarrow: pip install 'pyg_kd[tables]'", name="pyarrow"
        ) from error


def smallest(size: int) -> type[np.signedinteger[Any]]:
    """The type of ids below ``size``.

    Example:
        >>> smallest(2**31).__name__, smallest(2**31 + 1).__name__
        ('int32', 'int64')
    """
    return np.int32 if size <= 2**31 else np.int64


def ids_column(ids: Ids) -> Any:
    """Original ids, int64 or string."""
    pa = arrow()
    return pa.array(ids, pa.int64() if isinstance(ids, np.ndarray) else pa.string())


def list_columns(listed: Array, *values: Array) -> list[Any]:
    r"""Padded lists as lists of their own lengths.

    Args:
        listed: Which places are no padding, which is at the end of rows, bool ``[n, k]``.
        values: What stands in the places, ``[n, k]``: numbers, or objects that are strings.
    """
    pa = arrow()
    offsets = np.zeros(len(listed) + 1, np.int64)
    np.cumsum(listed.sum(1), out=offsets[1:])
    whole = bool(listed.all())
    columns = []
    for x in values:
        flat = x.reshape(-1) if whole else x[listed]
        column = pa.array(flat, pa.string() if flat.dtype.kind == "O" else None)
        columns.append(pa.LargeListArray.from_arrays(offsets, column))
    return columns


def vector_column(x: Array) -> Any:
    """Vectors ``[n, d]``."""
    pa = arrow()
    return pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])


def write_table(columns: Mapping[str, Any], told: Mapping[str, str]) -> Any:
    r"""The content of a Parquet file of columns, as a buffer.

    Args:
        columns: Arrow arrays by name.
        told: Metadata of the schema.
    """
    pa, parquet = arrow(), import_module("pyarrow.parquet")
    fields = [pa.field(name, column.type, nullable=False) for name, column in columns.items()]
    schema = pa.schema(fields, metadata=dict(told))
    sink = pa.BufferOutputStream()
    # Hardly a value occurs twice, and ids and scores barely shrink.
    parquet.write_table(
        pa.Table.from_arrays(list(columns.values()), schema=schema),
        sink,
        row_group_size=GROUP,
        version="2.6",
        compression="none",
        use_dictionary=False,
        write_statistics=False,
    )
    return sink.getvalue()


def read_columns(content: bytes, names: Sequence[str]) -> dict[str, Any]:
    """Some columns of a Parquet file, as Arrow arrays by name."""
    pa, parquet = arrow(), import_module("pyarrow.parquet")
    table = parquet.read_table(pa.BufferReader(content), columns=list(names), use_threads=False)
    return {name: table.column(name).combine_chunks() for name in names}


def padded(column: Any, width: int, fill: float | None) -> Array:
    r"""Lists as rows of the same width.

    Args:
        column: Lists of at most ``width`` numbers, or strings, each, ``[n]``.
        width: Columns of the result.
        fill: What stands after the end of a list.

    Returns:
        ``[n, width]``.

    Raises:
        ValueError: If a list is longer.
    """
    length = np.diff(column.offsets.to_numpy())
    if len(length) and int(length.max()) > width:
        raise ValueError(f"lists must have at most {width} places (got {int(length.max())})")
    values = column.flatten().to_numpy(zero_copy_only=False)
    if len(values) == len(length) * width:
        return np.asarray(values.reshape(-1, width))
    found = np.full((len(length), width), fill, values.dtype)
    found[np.arange(width) < length[:, None]] = values
    return found


def vectors(column: Any) -> Array:
    """Vectors, ``[n, d]``."""
    return np.asarray(column.flatten().to_numpy().reshape(len(column), column.type.list_size))
