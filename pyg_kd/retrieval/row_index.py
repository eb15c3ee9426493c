"""Ranking by rows of the tables, beneath original ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.backends import Backend, make_backend
from pyg_kd.retrieval.item_sets import Mask
from pyg_kd.retrieval.seen import Pattern, Seen, rows_of
from pyg_kd.retrieval.tables import Float32, Table

Rows = npt.NDArray[np.int64]

#: Rows of items, int64 ``[n, k]``, padded with -1, and their scores float32 ``[n, k]``.
Ranked = tuple[Rows, Float32]


class RowIndex:
    r"""Two tables, what users have seen, and lists of rows.

    :class:`~pyg_kd.retrieval.TopKIndex` adds original ids. Whoever answers many requests at once,
    each with items of its own to leave out, calls these methods.

    Args:
        x_user: Vectors of the users, ``[U, d]``.
        x_item: Vectors of the items, ``[I, d]``.
        seen: The items of each user: ``(ptr, col)``, ``[U + 1]`` and ``[nnz]``.
        popularity: How popular each item is ``[I]``; by default how often it was seen.
        backend: What ranks items.

    Raises:
        ValueError: If sizes or widths don't fit.
    """

    def __init__(
        self,
        x_user: Table,
        x_item: Table,
        *,
        seen: tuple[npt.ArrayLike, npt.ArrayLike] | Seen | None = None,
        popularity: npt.ArrayLike | None = None,
        backend: str = "numpy",
    ) -> None:
        if x_user.dim != x_item.dim:
            raise ValueError(
                "'x_user' and 'x_item' must have the same width "
                f"(got {x_user.dim} and {x_item.dim})"
            )
        self.x_user, self.x_item = x_user, x_item
        self.has_seen = seen is not None
        if not isinstance(seen, Seen):
            ptr, col = (np.zeros(self.num_users + 1, np.int64), ()) if seen is None else seen
            seen = Seen(ptr, col, self.num_items)
        if (seen.num_users, seen.num_items) != (self.num_users, self.num_items):
            raise ValueError(
                f"'seen' must be of {self.num_users} users and {self.num_items} items "
                f"(got {seen.num_users} and {seen.num_items})"
            )
        self.seen = seen
        self.popularity = self._popularity(popularity)
        self.backend = make_backend(backend, x_item)
        self._by_popularity: Backend | None = None
        self._changed: dict[int, Float32] = {}

    @property
    def num_users(self) -> int:
        """Number of users with vectors of their own."""
        return len(self.x_user)

    @property
    def num_items(self) -> int:
        """Number of items."""
        return len(self.x_item)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.x_item.dim

    @property
    def dtype(self) -> str:
        """Precision of the item table."""
        return self.x_item.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of both tables."""
        return self.x_user.nbytes + self.x_item.nbytes

    def set_vector(self, row: int, vector: Float32) -> None:
        """Replace a user's vector, float32 ``[d]``; the row may lie beyond the table."""
        self._changed[row] = vector

    def vectors_of(self, rows: Rows) -> Float32:
        """The vectors of users by row, zeros for a row of -1, float32 ``[n, d]``."""
        known = (rows >= 0) & (rows < self.num_users)
        if known.all() and not self._changed:
            return self.x_user.rows(rows)
        found = np.zeros((len(rows), self.dim), np.float32)
        found[known] = self.x_user.rows(rows[known])
        for place, row in enumerate(rows.tolist()):
            if (vector := self._changed.get(row)) is not None:
                found[place] = vector
        return found

    def rank(
        self,
        queries: Float32,
        k: int,
        *,
        hidden: Pattern | None = None,
        allowed: Mask | None = None,
        popular: Mask | None = None,
    ) -> Ranked:
        r"""The best items of query vectors.

        Args:
            queries: float32 ``[n, d]``.
            k: Length of the lists.
            hidden: The rows of items that each query must not get.
            allowed: The items that may be listed, bool ``[I]``.
            popular: The queries that get popular items instead, bool ``[n]``.

        Returns:
            Rows of items, int64, padded with -1, and scores, both ``[n, k]``.

        Raises:
            ValueError: If popular items are asked for and the index knows of none.
        """
        if popular is None or not popular.any():
            return self.backend.top_k(queries, k, hidden=hidden, allowed=allowed)
        rows = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)
        for which in (popular, ~popular):
            part = None if hidden is None else rows_of(hidden, np.flatnonzero(which))
            if which is popular:
                found = self.rank_popular(int(which.sum()), k, hidden=part, allowed=allowed)
            else:
                found = self.rank(queries[which], k, hidden=part, allowed=allowed)
            rows[which], scores[which] = found
        return rows, scores

    def rank_popular(
        self, n: int, k: int, *, hidden: Pattern | None = None, allowed: Mask | None = None
    ) -> Ranked:
        """The most popular items, ``n`` lists of them, and their popularity as scores."""
        if self.popularity is None:
            raise ValueError("the index knows no popularity: give 'popularity' or 'seen'")
        if self._by_popularity is None:
            # Popularity is a table of width 1, ranked as any other.
            self._by_popularity = make_backend("numpy", Table.of(self.popularity[:, None]))
        one: Any = np.ones((n, 1), np.float32)
        return self._by_popularity.top_k(one, k, hidden=hidden, allowed=allowed)

    def _popularity(self, popularity: npt.ArrayLike | None) -> Float32 | None:
        if popularity is None:
            if not self.has_seen:
                return None
            return np.bincount(self.seen.pattern.col, minlength=self.num_items).astype(np.float32)
        found = np.asarray(popularity, np.float32)
        if found.shape != (self.num_items,) or not np.isfinite(found).all():
            raise ValueError(
                f"'popularity' must be finite, [{self.num_items}] (got shape {list(found.shape)})"
            )
        return found
