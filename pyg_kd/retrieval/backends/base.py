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
    """Ranks the rows of one table for any queries.

    ``exact`` tells whether lists are those of :func:`pyg_kd.retrieval.search.top_k`. Backends
    are called from several threads.
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
    """Where a backend is, and the extra that installs what it needs."""

    module: str
    name: str
    extra: str | None = None


#: Backends by name.
BACKENDS = {
    "numpy": Source("numpy_backend", "NumpyBackend"),
}


def make_backend(name: str, table: Table, **options: Any) -> Backend:
    r"""The backend of a name, over a table.

    Args:
        name: One of ``BACKENDS``.
        table: The rows to rank.
        options: Options of the backend.

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
    try:
        module = import_module(f"pyg_kd.retrieval.backends.{source.module}")
    except ImportError as error:
        if source.extra is None or (error.name or "").startswith("pyg_kd"):
            raise
        raise ImportError(
            f"the backend {name!r} needs {error.name}: pip install 'pyg_kd[{source.extra}]'",
            name=error.name,
        ) from error
    backend: Backend = getattr(module, source.name)(table, **options)
    return backend
