"""The item table as a faiss index file."""

from __future__ import annotations

import os
from typing import Literal

import numpy as np

from pyg_kd.checks import require_choice
from pyg_kd.files import atomic_write
from pyg_kd.retrieval.extras import need
from pyg_kd.retrieval.index import TopKIndex

#: Rows added at once.
BLOCK = 1 << 16

#: Rows a coarse quantiser is trained on, at most.
TRAINED_ON = 1 << 18


def write_faiss(
    index: TopKIndex,
    path: str | os.PathLike[str],
    *,
    factory: str = "Flat",
    ids: Literal["original", "rows"] = "original",
) -> None:
    r"""Write the items as a file for ``faiss.read_index``, to be searched by inner product.

    Such an index knows neither users nor what they have seen.

    Args:
        index: The index.
        path: The file, which is replaced as a whole.
        factory: A description for ``faiss.index_factory``, such as ``"Flat"``,
            ``"IVF1024,Flat"`` or ``"HNSW32"``.
        ids: What a search returns: the ``"original"`` ids, where those are integers, or
            ``"rows"``. Strings have no place in a faiss index: give ``"rows"``.

    Raises:
        ImportError: If ``faiss`` is not installed.
        ValueError: If the description is unknown, or original ids are strings, or have -1, by
            which faiss says that it found nothing.

    Example:
        >>> import faiss
        >>> from tempfile import TemporaryDirectory
        >>> index = TopKIndex(np.eye(2), np.eye(3, 2), item_ids=[70, 80, 90])
        >>> with TemporaryDirectory() as folder:
        ...     write_faiss(index, f"{folder}/items.faiss")
        ...     faiss.read_index(f"{folder}/items.faiss").search(index.vectors([1]), 1)[1]
        array([[80]])
    """
    require_choice(("original", "rows"), ids=ids)
    labels = np.arange(index.num_items)
    if ids == "original":
        if index.items.kind == "text":
            raise ValueError("original ids are strings, which faiss can't hold: use ids 'rows'")
        labels = index.items.take(labels)
        if (labels == -1).any():
            raise ValueError("an item has the id -1, which faiss returns for none: use ids 'rows'")
    faiss = need("faiss", "faiss", "write_faiss")
    try:
        found = faiss.index_factory(index.dim, f"IDMap2,{factory}", faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ValueError(f"'factory' must be known to faiss (got {factory!r})") from error
    table = index.x_item
    if not found.is_trained:
        step = -(-index.num_items // TRAINED_ON)
        found.train(table.rows(np.arange(0, index.num_items, step)))
    for start in range(0, index.num_items, BLOCK):
        stop = min(start + BLOCK, index.num_items)
        found.add_with_ids(np.ascontiguousarray(table.block(start, stop)), labels[start:stop])
    with atomic_write(path) as temporary:
        faiss.write_index(found, str(temporary))
