"""The top-k index: a student's tables, what users have seen, and lists by original ids."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from pyg_kd.checks import require_choice, require_count
from pyg_kd.retrieval.fold_in import FoldIn
from pyg_kd.retrieval.ids import Ids
from pyg_kd.retrieval.item_sets import ItemSets, Mask
from pyg_kd.retrieval.list_rounding import tables_at
from pyg_kd.retrieval.newcomers import Newcomers
from pyg_kd.retrieval.row_index import RowIndex
from pyg_kd.retrieval.seen import Pattern, Seen, pattern_of
from pyg_kd.retrieval.tables import Float32, Table

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

    from pyg_kd.models import Recommender

Array = npt.NDArray[Any]
IdsLike = npt.ArrayLike | Sequence[Any]

#: Items listed, by original id ``[n, k]``, and their scores float32 ``[n, k]``.
Lists = tuple[Array, Float32]


class TopKIndex(RowIndex):
    r"""Exact top-k lists from two embedding tables, for known and new users.

    Needs NumPy alone. Items are ordered by :math:`\langle x_u, x_i \rangle`, equal ones by their
    row. Lists that end early are padded: ids of -1 (integers) or ``None`` (strings), scores of
    ``-inf``. All methods may be called from several threads.

    Args:
        x_user: Vectors of the users, floating point ``[U, d]``, or a :class:`Table`.
        x_item: Vectors of the items, ``[I, d]``, or a :class:`Table`.
        seen: The items that each user has seen, ``(ptr, col)``: integers ``[U + 1]`` and
            ``[nnz]``, the rows of user ``u``'s items being ``col[ptr[u]:ptr[u + 1]]``.
        user_ids: Original ids of the users, integers or strings ``[U]``; by default their rows.
        item_ids: Original ids of the items ``[I]``.
        dtype: At which precision arrays are stored: ``"float32"``, ``"float16"``, ``"int8"`` or
            ``"int4"``.
        popularity: How popular each item is ``[I]``, for users without vectors. By default how
            often it was seen; without ``seen``, unknown.
        fold_in: How vectors of new users are computed. By default by ridge regression with
            settings that suit most tables; :func:`~pyg_kd.retrieval.fold_in.fit_fold_in` and
            :func:`~pyg_kd.retrieval.save_student` choose better ones.
        backend: What ranks items; see :func:`~pyg_kd.retrieval.backends.make_backend`.
        info: What is known of the tables, the manifest of a bundle for one.

    Raises:
        TypeError: If tables are not floating point, or ids neither integers nor strings.
        ValueError: If sizes or widths don't fit, values are not finite, or ids are repeated.

    Example:
        >>> x_user, x_item = np.eye(2, 3, dtype=np.float32), np.eye(3, dtype=np.float32)
        >>> index = TopKIndex(x_user, x_item, seen=([0, 1, 1], [0]), item_ids=["a", "b", "c"])
        >>> items, scores = index.search([1, 0], k=2)
        >>> items.tolist(), scores.tolist()
        ([['b', 'a'], ['b', 'c']], [[1.0, 0.0], [0.0, 0.0]])
    """

    def __init__(
        self,
        x_user: npt.ArrayLike | Table,
        x_item: npt.ArrayLike | Table,
        *,
        seen: tuple[npt.ArrayLike, npt.ArrayLike] | Seen | None = None,
        user_ids: IdsLike | Ids | None = None,
        item_ids: IdsLike | Ids | None = None,
        dtype: str = "float32",
        popularity: npt.ArrayLike | None = None,
        fold_in: FoldIn | None = None,
        backend: str = "numpy",
        info: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            _table(x_user, dtype, "x_user"),
            _table(x_item, dtype, "x_item"),
            seen=seen,
            popularity=popularity,
            backend=backend,
        )
        self.users = _ids(user_ids, self.num_users, "user")
        self.items = _ids(item_ids, self.num_items, "item")
        self._fold_in = fold_in
        self.sets, self.newcomers = ItemSets(self.num_items), Newcomers(self.users)
        self.info: dict[str, Any] = dict(info or {})
        self._lock = threading.Lock()

    @staticmethod
    def from_model(
        model: Recommender, graph: HeteroData, *, dtype: str = "float32", **options: Any
    ) -> TopKIndex:
        r"""The index of a trained model.

        Args:
            model: A recommender whose score is an inner product.
            graph: The training graph; its edges are what users have seen, and ``raw_id`` of its
                nodes, if there, their original ids.
            dtype: At which precision the tables are stored; int4 is rounded so that lists change
                least (:func:`~pyg_kd.retrieval.tables_at`).
            options: Further arguments of :class:`TopKIndex`.

        Raises:
            ValueError: If the model's score is not an inner product.
        """
        from pyg_kd.retrieval.from_model import tables_of  # imports torch

        found = tables_of(model, graph)
        ptr, col = found["seen"]
        seen = Seen(ptr, col, len(found["x_item"]))
        users, items = tables_at(found["x_user"], found["x_item"], dtype, seen)
        return TopKIndex(**{**found, "x_user": users, "x_item": items, **options})

    @property
    def fold_in(self) -> FoldIn:
        """How vectors of new users are computed; the default is made when it is first needed."""
        if self._fold_in is None:
            self._fold_in = FoldIn.default(self.x_item)
        return self._fold_in

    def search(
        self,
        users: IdsLike,
        k: int = 20,
        *,
        exclude_seen: bool = True,
        exclude: IdsLike | None = None,
        candidates: IdsLike | None = None,
        filters: str | Sequence[str] | None = None,
        unknown: Literal["raise", "popular"] = "raise",
    ) -> Lists:
        r"""The best items of known users.

        Args:
            users: Original ids, ``[n]``, or one id.
            k: Length of the lists.
            exclude_seen: Leave out what each user has seen.
            exclude: Ids of further items to leave out; unknown ones are ignored.
            candidates: Ids of the only items to list; unknown ones are ignored.
            filters: Names of sets given to :meth:`add_filter`, all of which must hold an item.
            unknown: What unknown users, and users who have seen nothing, get: ``"popular"``
                items, or for unknown users an error (``"raise"``).

        Returns:
            Original ids of the items, best first, and their scores, both ``[n, k]``. Scores of
            popular items are their popularity.

        Raises:
            UnknownId: If a user is unknown and ``unknown="raise"``.
            ValueError: If ``k`` is not a positive integer, there is no set of that name, or
                popular items are asked for and the index knows of none.
        """
        require_count(k=k)
        require_choice(("raise", "popular"), unknown=unknown)
        rows = (
            self.newcomers.find(users)
            if unknown == "popular"
            else self.newcomers.rows(users, "users")
        )
        allowed = self.allowed(exclude=exclude, candidates=candidates, filters=filters)
        seen = self.seen.of(rows)
        popular = np.zeros(len(rows), bool)
        if unknown == "popular":
            popular = (rows < 0) | ((np.diff(seen.ptr) == 0) & self.has_seen)
        hidden = seen if exclude_seen else None
        queries = self.vectors_of(rows)
        best, scores = self.rank(queries, k, hidden=hidden, allowed=allowed, popular=popular)
        return self.items.take(best), scores

    def search_history(
        self,
        items: IdsLike | Sequence[IdsLike],
        k: int = 20,
        *,
        exclude_seen: bool = True,
        exclude: IdsLike | None = None,
        candidates: IdsLike | None = None,
        filters: str | Sequence[str] | None = None,
    ) -> Lists:
        r"""The best items of users of whom only their items are known.

        Args:
            items: One history, ids of items, or a list of histories. Repeated ids count once.
            k: Length of the lists.
            exclude_seen: Leave out the items of each history.
            exclude: Ids of further items to leave out; unknown ones are ignored.
            candidates: Ids of the only items to list; unknown ones are ignored.
            filters: Names of sets given to :meth:`add_filter`.

        Returns:
            Original ids and scores, both ``[n, k]``, with ``n = 1`` for one history. An empty
            history gets popular items.

        Raises:
            UnknownId: If an item of a history is unknown.
            ValueError: As :meth:`search`.
        """
        require_count(k=k)
        history = self.histories(items)
        allowed = self.allowed(exclude=exclude, candidates=candidates, filters=filters)
        queries, popular = self.fold_in(*history), np.diff(history.ptr) == 0
        hidden = history if exclude_seen else None
        rows, scores = self.rank(queries, k, hidden=hidden, allowed=allowed, popular=popular)
        return self.items.take(rows), scores

    def most_popular(self, k: int = 20, **sets: Any) -> Lists:
        """The most popular items, ``[k]``, and their popularity; ``sets`` as in :meth:`search`."""
        require_count(k=k)
        rows, scores = self.rank_popular(1, k, allowed=self.allowed(**sets))
        return self.items.take(rows[0]), scores[0]

    def add_interactions(self, user: Any, items: IdsLike) -> None:
        r"""Note what a user did: seen at once, and the user's vector changes at once.

        A new user's vector is computed from all items, that of a known one moves by what the new
        items change (:meth:`FoldIn.updated <pyg_kd.retrieval.fold_in.FoldIn.updated>`).

        Args:
            user: An original id, which may be new.
            items: Original ids of items.

        Raises:
            UnknownId: If an item is unknown; then nothing is noted.
            TypeError: If a new user's id is not of the kind of the others.
        """
        self.add_interactions_of({user: items})

    def add_interactions_of(self, items_of: Mapping[Any, IdsLike]) -> None:
        r"""As :meth:`add_interactions` for several users, whose vectors are computed together.

        Args:
            items_of: Original ids of items by that of the user.

        Raises:
            UnknownId: If an item is unknown; then nothing is noted.
            TypeError: If a new user's id is not of the kind of the others; then nothing is seen.
        """
        found = [self.items.rows(items, "items") for items in items_of.values()]
        with self._lock:
            users = [self.newcomers.row(user) for user in items_of]
            for row, items in zip(users, found, strict=True):
                self.seen.add(row, items)
            for row, vector in zip(users, self._vectors_now(users), strict=True):
                self.set_vector(row, vector.copy())

    def set_unavailable(self, items: IdsLike) -> None:
        """Leave items out of all lists from now on, until :meth:`set_available`."""
        self.sets.set_available(self.items.rows(items, "items"), False)

    def set_available(self, items: IdsLike) -> None:
        """List items again that :meth:`set_unavailable` took out."""
        self.sets.set_available(self.items.rows(items, "items"), True)

    def add_filter(self, name: str, items: IdsLike) -> None:
        """Name a set of items for the ``filters`` of a request; unknown ids are ignored."""
        self.sets.name(name, self._known_items(items))

    def vectors(self, users: IdsLike) -> Float32:
        """The vectors of known users, folded-in ones included, float32 ``[n, d]``."""
        return self.vectors_of(self.newcomers.rows(users, "users"))

    def allowed(
        self,
        *,
        exclude: IdsLike | None = None,
        candidates: IdsLike | None = None,
        filters: str | Sequence[str] | None = None,
    ) -> Mask | None:
        """The items that a request may list, bool ``[I]``, or ``None`` for all."""
        without, only = (
            None if ids is None else self._known_items(ids) for ids in (exclude, candidates)
        )
        return self.sets.allowed(filters, only=only, without=without)

    def histories(self, items: IdsLike | Sequence[IdsLike]) -> Pattern:
        """The rows of one history or several, each item once, as a pattern."""
        several = isinstance(items, (list, tuple)) and any(
            isinstance(entry, (list, tuple, np.ndarray)) for entry in items
        )
        listed: Any = items if several else [items]
        return pattern_of([np.unique(self.items.rows(history, "items")) for history in listed])

    def _vectors_now(self, users: Sequence[int]) -> Float32:
        before = pattern_of([self.seen.stored(row) for row in users])
        after = pattern_of([self.seen.history(row) for row in users])
        rows = np.array(users, np.int64)
        trained = np.zeros((len(rows), self.dim), np.float32)
        known = rows < self.num_users
        trained[known] = self.x_user.rows(rows[known])
        return self.fold_in.all_updated(trained, before, after)

    def _known_items(self, ids: IdsLike) -> npt.NDArray[np.int64]:
        rows = self.items.find(ids)
        return rows[rows >= 0]

    def __repr__(self) -> str:
        return (
            f"TopKIndex({self.num_users} users, {self.num_items} items, dim={self.dim}, "
            f"{self.dtype}, {self.backend.name})"
        )


def _table(x: npt.ArrayLike | Table, dtype: str, name: str) -> Table:
    return x if isinstance(x, Table) else Table.of(x, dtype, name)


def _ids(ids: IdsLike | Ids | None, size: int, name: str) -> Ids:
    found = ids if isinstance(ids, Ids) else Ids(ids, size if ids is None else None, name)
    if len(found) != size:
        raise ValueError(f"'{name}_ids' must be {size} ids (got {len(found)})")
    return found
