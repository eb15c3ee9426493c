"""Vectors with their original ids as Parquet files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pyg_kd.checks import require_count
from pyg_kd.files import atomic_write
from pyg_kd.retrieval.extras import need
from pyg_kd.retrieval.ids import Ids
from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.tables import Table


def write_parquet(
    index: TopKIndex, folder: str | os.PathLike[str], *, rows_per_group: int = 65_536
) -> None:
    r"""Write ``users.parquet`` and ``items.parquet``: an id and a vector in every row.

    Columns are ``id``, int64 or string, and ``vector``, a list of ``d`` float32 (what is stored
    at a lower precision is widened). Rows come in the order of the tables, in groups that are
    written one by one, so that memory is that of a group. The metadata of the schema has
    ``pyg_kd.name`` and ``pyg_kd.sha256`` of the bundle, where the index is from one.

    Args:
        index: The index.
        folder: Where the files go. Files of these names are replaced.
        rows_per_group: Rows of a row group.

    Raises:
        ImportError: If ``pyarrow`` is not installed.
        ValueError: If ``rows_per_group`` is not a positive integer.

    Example:
        >>> import numpy as np, pyarrow.parquet
        >>> from tempfile import TemporaryDirectory
        >>> index = TopKIndex(np.eye(2), np.eye(3, 2), item_ids=["a", "b", "c"])
        >>> with TemporaryDirectory() as folder:
        ...     write_parquet(index, folder)
        ...     pyarrow.parquet.read_table(f"{folder}/items.parquet").to_pylist()[0]
        {'id': 'a', 'vector': [1.0, 0.0]}
    """
    require_count(rows_per_group=rows_per_group)
    need("pyarrow", "tables", "write_parquet")
    told = {f"pyg_kd.{k}": str(index.info[k]) for k in ("name", "sha256") if k in index.info}
    for name, ids, table in (
        ("users", index.users, index.x_user),
        ("items", index.items, index.x_item),
    ):
        with atomic_write(Path(folder) / f"{name}.parquet") as temporary:
            _write(temporary, ids, table, rows_per_group, told)


def _write(path: Path, ids: Ids, table: Table, rows_per_group: int, told: dict[str, str]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    id_type = pa.string() if ids.kind == "text" else pa.int64()
    schema = pa.schema(
        [pa.field("id", id_type, False), pa.field("vector", pa.list_(pa.float32(), table.dim))],
        metadata=told,
    )
    # Hardly a value occurs twice.
    with parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for start in range(0, len(table), rows_per_group):
            stop = min(start + rows_per_group, len(table))
            vectors = pa.FixedSizeListArray.from_arrays(
                pa.array(table.block(start, stop).reshape(-1)), table.dim
            )
            batch = [_ids(ids, start, stop), vectors]
            writer.write_table(pa.table(batch, schema=schema), row_group_size=rows_per_group)


def _ids(ids: Ids, start: int, stop: int) -> Any:
    """Some ids as an Arrow array; text is handed over as it is stored, not decoded."""
    import numpy as np
    import pyarrow as pa

    if ids.kind != "text":
        return pa.array(ids.take(np.arange(start, stop)))
    arrays = ids.arrays()
    offsets = arrays["offsets"][start : stop + 1]
    text = arrays["bytes"][offsets[0] : offsets[-1]]
    buffers = [pa.py_buffer((offsets - offsets[0]).astype(np.int32)), pa.py_buffer(text)]
    return pa.StringArray.from_buffers(stop - start, *buffers)
