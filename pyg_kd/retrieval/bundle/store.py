r"""A student in a folder: everything that is served, and where it came from.

The folder holds ``manifest.json``, whose fields :mod:`~pyg_kd.retrieval.bundle.manifest`
describes, and safetensors files: both tables, the items each user has seen, original ids,
popularity, and how vectors of new users are computed. Nothing in it is executed when it is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal, Union

import numpy.typing as npt

from pyg_kd.checks import require_choice
from pyg_kd.retrieval.bundle.manifest import BundleError
from pyg_kd.retrieval.bundle.origin import origin_of, plain, told_of
from pyg_kd.retrieval.bundle.parts import arguments_of, parts_of
from pyg_kd.retrieval.bundle.precision_loss import precision_loss
from pyg_kd.retrieval.bundle.reader import read_bundle
from pyg_kd.retrieval.bundle.writer import write_bundle
from pyg_kd.retrieval.fold_in import FoldIn, fit_fold_in_of
from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.list_rounding import tables_at
from pyg_kd.retrieval.seen import Pattern, check_pattern
from pyg_kd.retrieval.tables import DTYPES, Table

if TYPE_CHECKING:
    from torch import nn
    from torch_geometric.data import HeteroData

    from pyg_kd.models import Recommender

Path = str | os.PathLike[str]

#: Items of each user: of a graph, or where they begin ``[U + 1]`` and their rows ``[nnz]``.
Interacted = Union["HeteroData", tuple[npt.ArrayLike, npt.ArrayLike]]


def save_index(index: TopKIndex, path: Path) -> dict[str, Any]:
    r"""Write an index as a bundle, or replace a bundle by it at once.

    What changes while an index serves is not saved: interactions added to it, items out of stock
    and named sets. New users will be folded in over the item table as it is stored.

    The index's ``info`` may tell the fields ``name``, ``model``, ``graph``, ``teacher``,
    ``metrics`` and ``precision`` of the manifest; an index that was loaded carries those of its
    bundle.

    Args:
        index: The index.
        path: A folder, which is made, is empty, or holds a bundle.

    Returns:
        The manifest.

    Raises:
        BundleError: If there is something else at ``path``.
        TypeError: If ``index.info`` tells what JSON has no form for.
        ValueError: If it tells numbers that are not finite, or new users are folded in over a
            table of another shape.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> index = TopKIndex(np.eye(2, 3), np.eye(3), item_ids=["a", "b", "c"])
        >>> with TemporaryDirectory() as folder:
        ...     manifest = save_index(index, f"{folder}/bundle")
        ...     items, scores = load_student(f"{folder}/bundle").search([1], k=2)
        >>> sorted(manifest["files"]), items.tolist()
        (['item_ids', 'items', 'users'], [['b', 'a']])
    """
    table, other = index.x_item, index.fold_in.x_item
    if (len(table), table.dim) != (len(other), other.dim):
        raise ValueError(f"'index' folds in over another item table (got {other}, not {table})")
    described, parts = parts_of(index)
    created = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {**described, **told_of(index.info), "created": created}
    return write_bundle(path, plain(fields), parts)


def save_student(
    model: Recommender,
    path: Path,
    *,
    graph: HeteroData,
    dtype: str = "float32",
    user_ids: npt.ArrayLike | None = None,
    item_ids: npt.ArrayLike | None = None,
    metrics: Mapping[str, float] | None = None,
    teacher: nn.Module | Mapping[str, Any] | str | None = None,
    fold_in: Literal["auto"] | None = "auto",
    seen: Interacted | None = None,
    validation: Interacted | None = None,
    name: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    r"""Write a trained student as a bundle that is served without PyTorch.

    Args:
        model: A recommender whose score is an inner product.
        path: A folder, which is made, is empty, or holds a bundle, which is replaced at once.
        graph: The training graph.
        dtype: Precision of both tables: ``"float32"``, ``"float16"``, ``"int8"`` or ``"int4"``,
            the latter rounded so that lists change least
            (:func:`~pyg_kd.retrieval.tables_at`). Below float32, the manifest tells what that
            costs.
        user_ids: Original ids of the users, integers or strings ``[U]``; by default ``raw_id`` of
            the graph's nodes, or else their rows.
        item_ids: Original ids of the items ``[I]``.
        metrics: Numbers to note, such as validation metrics.
        teacher: The teacher, its fingerprint, or what to note of it; by default the fingerprint
            that :func:`~pyg_kd.knowledge.extract_knowledge` left on the graph.
        fold_in: ``"auto"`` fits how vectors of new users are computed, on users whose items are
            partly held out. ``None`` takes usual settings.
        seen: What users have seen, the edges of a graph or ``(ptr, col)``; by default those of
            the training graph. Where there are more, they are not recommended either.
        validation: Items that users chose later, the ``edge_label_index`` of a graph or
            ``(ptr, col)``. They serve to choose ``fold_in``, and for a precision below float32
            recall on them is noted.
        name: What to call it; by default the class of the model.
        seed: Which users are held out to fit ``fold_in``.

    Returns:
        The manifest.

    Raises:
        BundleError: If there is something else at ``path``.
        ValueError: If the model's score is not an inner product, an option is unknown, or
            ``seen`` or ``validation`` are of other users or items, or validation items are
            training edges.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.models import MF
        >>> data = SyntheticInteractions(None, num_users=20, num_items=50, num_edges=80)[0]
        >>> with TemporaryDirectory() as folder:
        ...     manifest = save_student(MF(data, dim=4), folder, graph=data, dtype="int8")
        ...     load_student(folder)
        TopKIndex(20 users, 50 items, dim=4, int8, numpy)
    """
    require_choice(DTYPES, dtype=dtype)
    if fold_in not in ("auto", None):
        raise ValueError(f"'fold_in' must be 'auto' or None (got {fold_in!r})")
    ids: dict[str, Any] = {"user_ids": user_ids, "item_ids": item_ids}
    ids = {name: values for name, values in ids.items() if values is not None}
    full = TopKIndex.from_model(model, graph, **ids)
    later = (
        None if validation is None else _pattern(_targets(validation, graph), full, "validation")
    )
    before = full.x_user, full.x_item
    users, items = tables_at(before[0].values, before[1].values, dtype, full.seen)
    index = TopKIndex(
        users,
        items,
        seen=full.seen if seen is None else _pattern(_edges(seen), full, "seen"),
        user_ids=full.users,
        item_ids=full.items,
        fold_in=_fitted(model, graph, users, items, later, seed) if fold_in == "auto" else None,
    )
    index.info = origin_of(model, graph, teacher) | {"metrics": dict(metrics or {})}
    index.info["name"] = type(model).__name__ if name is None else name
    if dtype != "float32":
        index.info["precision"] = precision_loss(
            before, (users, items), full.seen, validation=later
        )
    return save_index(index, path)


def load_student(
    path: Path, *, mmap: bool = True, verify: bool = True, backend: str = "numpy"
) -> TopKIndex:
    r"""An index from a bundle, without PyTorch.

    With ``mmap``, processes share one copy of the tables in memory, and a bundle that replaces this
    one leaves it readable. What is mapped must not be written to in place, which nothing in this
    package does.

    Args:
        path: The folder.
        mmap: Map the files instead of reading them.
        verify: Compare the SHA-256 of every file, and look at every value. Without it, only
            sizes, shapes and ranges of indices are checked.
        backend: What ranks items; see :func:`~pyg_kd.retrieval.backends.make_backend`.

    Returns:
        The index; its ``info`` is the manifest.

    Raises:
        BundleError: If there is no bundle, or it is damaged, mixed from several, or of a newer
            format, with the reason.
        ValueError: If the backend is unknown.
    """
    fields, parts = read_bundle(path, map_files=mmap, verify=verify)
    try:
        arguments = arguments_of(fields, parts, verify=verify)
    except (ValueError, TypeError) as error:
        raise BundleError(path, error) from error
    return TopKIndex(**arguments, backend=backend, info=fields)


def _fitted(
    model: Recommender,
    graph: HeteroData,
    users: Table,
    items: Table,
    later: Pattern | None,
    seed: int,
) -> FoldIn:
    return fit_fold_in_of(model, graph, users, items, val=later, seed=seed)


def _edges(given: Interacted) -> tuple[npt.ArrayLike, npt.ArrayLike]:
    if isinstance(given, tuple):
        return given
    from pyg_kd.graph import interactions

    by_user = interactions(given).by_user()
    return by_user.ptr.cpu().numpy(), by_user.col.cpu().numpy()


def _targets(given: Interacted, graph: HeteroData) -> tuple[npt.ArrayLike, npt.ArrayLike]:
    if isinstance(given, tuple):
        return given
    from pyg_kd.metrics.ranking_task import ranking_task

    targets = ranking_task(graph, given, "validation").targets
    return targets.ptr.cpu().numpy(), targets.col.cpu().numpy()


def _pattern(given: tuple[npt.ArrayLike, npt.ArrayLike], index: TopKIndex, name: str) -> Pattern:
    pattern = check_pattern(*given, index.num_items, name)
    if len(pattern.ptr) != index.num_users + 1:
        raise ValueError(
            f"{name!r} must be of {index.num_users} users (got {len(pattern.ptr) - 1})"
        )
    return pattern
