"""What backends have in common, and how one is made."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from pyg_kd.checks import require_choice
from pyg_kd.retrieval.seen import Pattern
from pyg_kd.retrieval.tables import Table

Array = npt.NDArray[Any]
Ranked = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]


class Backend(Protocol):
    """Ranks the rows of one table for any queries; it may be called from several threads.

    An exact one lists what :func:`pyg_kd.retrieval.search.top_k` lists, but for the rounding of
    the scores. Another one may miss rows.
    """

    name: str
    exact: bool

    def top_k(
        self,
        queries: Array,
        k: int,
        *,
        hidden: Pattern | None = None,
        allowed: Array | None = None,
    ) -> Ranked:
        """Rows int64 ``[n, k]`` and scores float32 ``[n, k]``, as of ``search.top_k``."""


class Source(NamedTuple):
    """The module and class of a backend, and its options."""

    module: str
    name: str
    options: dict[str, Any]


#: Backends by name.
BACKENDS = {
    "numpy": Source("numpy_backend", "NumpyBackend", {}),
    "torch": Source("torch_backend", "TorchBackend", {}),
    "faiss-flat": Source("faiss_backend", "FaissBackend", {"kind": "flat"}),
    "faiss-ivf": Source("faiss_backend", "FaissBackend", {"kind": "ivf"}),
    "faiss-hnsw": Source("faiss_backend", "FaissBackend", {"kind": "hnsw"}),
    "hnswlib": Source("hnswlib_backend", "HnswlibBackend", {}),
}


def make_backend(name: str, table: Table, **options: Any) -> Backend:
    r"""The backend of a name, over a table.

    Args:
        name: One of ``BACKENDS``.
        table: The rows to rank.
        options: Options of the backend's class.

    Raises:
        ValueError: If there is no backend of this name.
        ImportError: If a library is missing; the message names the extra that installs it.
        TypeError: If the backend has no such option.

    Example:
        >>> backend = make_backend("numpy", Table.of(np.eye(3)))
        >>> backend.top_k(np.array([[0.0, 2.0, 1.0]]), k=2)[0].tolist()
        [[1, 2]]
    """
    require_choice(tuple(BACKENDS), backend=name)
    source = BACKENDS[name]
    module = import_module(f"pyg_kd.retrieval.backends.{source.module}")
    backend: Backend = getattr(module, source.name)(table, **source.options, **options)
    return backend
