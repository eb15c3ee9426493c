"""Extracting a teacher's representations and rankings onto the graph."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.functional.ranking import ScoreBlock, rank_unseen
from pyg_kd.graph import Neighbors, interactions, node_ids
from pyg_kd.knowledge.confidence import trusted_lists
from pyg_kd.knowledge.popularity import weakness
from pyg_kd.knowledge.requirements import graph_fingerprint, name_source, source_fingerprint
from pyg_kd.knowledge.top_users import TopUsers
from pyg_kd.knowledge.values import PLACES, ROWS
from pyg_kd.models.base import Recommender
from pyg_kd.models.inference import inference, represent
from pyg_kd.progress import Progress
from pyg_kd.typing import ITEM, USER, XDict

#: Items kept for each user by default, if the catalogue is large enough.
DEFAULT_ITEMS = 500


def extract_knowledge(
    teacher: Recommender,
    data: HeteroData,
    *,
    num_items: int | None = None,
    num_users: int = 0,
    users: Tensor | Sequence[int] | None = None,
    row_block: int | None = None,
    col_tile: int | None = None,
    progress: bool = False,
    trusted: bool = False,
    val_data: HeteroData | None = None,
) -> HeteroData:
    r"""Attach a trained teacher's representations and rankings to a graph.

    The result is ``data``, copied shallowly, with

    * ``data["user"].teacher_x``, ``data["item"].teacher_x``: the teacher's
      final representations, ``[U, d_t]`` and ``[I, d_t]``, if they are embeddings
      (``teacher.latent``),
    * ``data["user"].teacher_items``: each user's top ``num_items`` unseen items,
      best first, int32 ``[U, num_items]``, padded with -1; with ``users``, those of these users,
      ``[n, num_items]``, and ``data["user"].teacher_rows``, who they are, ascending int64 ``[n]``,
    * ``data["item"].teacher_users``: each item's top ``num_users`` users without an
      edge to it, best first, int32 ``[I, num_users]``, padded with -1,
    * ``data.graph_fingerprint`` and ``data.teacher_fingerprint``, so that knowledge
      from another graph is refused,
    * ``data.teacher_inner_product``: whether inner products of ``teacher_x``
      are the teacher's scores.

    Embeddings and lists of another teacher are dropped. Users are ranked in blocks and items in
    tiles, so a full score matrix is never allocated. Users and items are ranked in one pass over
    the scores. What fits no memory, or takes several processes, goes to files by
    :func:`~pyg_kd.knowledge.extract_shards`.

    Args:
        teacher: A trained model.
        data: The graph it was fitted on.
        num_items: Items to keep for each user; 0 for none. By default 500, or the whole
            catalogue if that is smaller.
        num_users: Users to keep for each item; 0 (default) for none.
        users: Rank only for these users, ``[n]`` integers. Only their lists are allocated; methods
            take the lists of all others for empty.
        row_block: Rows ranked at once; chosen automatically by default.
        col_tile: Columns ranked at once; chosen automatically by default.
        progress: Show progress on the standard error stream.
        trusted: Accept a teacher that was fitted on another graph, although it may have seen
            targets that ``data`` holds out. :class:`~pyg_kd.training.Trainer` records the graph
            of a model. It is unknown for embeddings from elsewhere
            (:meth:`~pyg_kd.models.Recommender.from_embeddings`) and for your own training loops,
            unless you set ``teacher.fitted_on = graph_fingerprint(data)``.
        val_data: A graph with targets in ``edge_label_index``. If given, a warning is issued when
            the teacher's lists are no better than the most popular unseen items, by NDCG@20.

    Returns:
        The graph with the knowledge; ``data`` is left unchanged.

    Raises:
        TypeError: If ``teacher`` is not a recommender, or a length is not an integer.
        ValueError: If the teacher has other numbers of users or items or was fitted on another
            graph, a representation is not finite, or a list would be longer than what it ranks.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.models import MF
        >>> data = SyntheticInteractions(None, num_users=20, num_items=50, num_edges=80)[0]
        >>> graph = extract_knowledge(MF(data, dim=4), data, num_items=10)
        >>> graph["user"].teacher_x.shape, graph["user"].teacher_items.shape
        (torch.Size([20, 4]), torch.Size([20, 10]))
    """
    check_teacher(teacher, data, trusted)
    edges = interactions(data)
    num_items = min(DEFAULT_ITEMS, edges.num_items) if num_items is None else num_items
    check_length("num_items", num_items, edges.num_items)
    check_length("num_users", num_users, edges.num_users)
    if val_data is not None and not num_items:
        raise ValueError(f"'val_data' needs lists to validate (got num_items={num_items})")
    rows = None if users is None else node_ids(data, USER, "users", users).unique()
    rows = None if rows is not None and len(rows) == edges.num_users else rows
    x_dict = finite_representations(teacher, data)

    graph = copy.copy(data)
    name_source(graph, graph_fingerprint(data), source_fingerprint(teacher, data))
    graph.teacher_inner_product = teacher.inner_product
    if teacher.latent:
        for node_type in (USER, ITEM):
            graph[node_type].teacher_x = x_dict[node_type].clone()
    blocks: dict[str, Any] = {"row_block": row_block, "col_tile": col_tile, "progress": progress}
    device = x_dict[USER].device
    top = TopUsers(edges.num_items, num_users, device) if num_users else None
    together = top is not None and num_items > 0 and rows is None
    if num_items:
        tiles = top.add if top is not None and together else None
        lists = rank_items(
            teacher, x_dict, edges.by_user(), num_items, rows=rows, on_tile=tiles, **blocks
        )
        _attach(graph, lists, rows)
        if val_data is not None:
            message = weakness(trusted_lists(graph)[0], data, val_data)
            if message is not None:
                warnings.warn(message, stacklevel=2)
    if top is not None and together:
        graph[ITEM].teacher_users = top.result()[1]
    elif num_users:
        lists = rank_users(teacher, x_dict, edges.by_item(), num_users, **blocks)
        graph[ITEM].teacher_users = lists
    return graph


def _attach(graph: HeteroData, lists: Tensor, rows: Tensor | None) -> None:
    """Lists of users, in place of what other lists of this teacher carried."""
    for name in (*PLACES, ROWS):
        graph[USER].pop(name, None)
    graph[USER].teacher_items = lists
    if rows is not None:
        graph[USER][ROWS] = rows


def check_teacher(teacher: Recommender, data: HeteroData, trusted: bool = False) -> None:
    """Raise unless ``teacher`` is a model of this graph, as far as is known."""
    if not isinstance(teacher, Recommender):
        raise TypeError(
            f"'teacher' must be a Recommender (got {type(teacher).__name__}): wrap the embeddings "
            "of another model by Recommender.from_embeddings(data, x_user, x_item)"
        )
    teacher.check_data(data)
    found = graph_fingerprint(data)
    if not trusted and teacher.fitted_on not in (None, found):
        raise ValueError(
            f"'teacher' was fitted on another graph (fingerprint {teacher.fitted_on:.12}, 'data' "
            f"has {found:.12}) and may have seen targets that 'data' holds out: fit it on 'data', "
            "or pass trusted=True if it has not seen them"
        )


def check_length(name: str, value: int, most: int) -> None:
    """Raise unless the length of a list is an integer from 0 to ``most``."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name!r} must be an integer (got {value!r})")
    if not 0 <= value <= most:
        raise ValueError(f"{name!r} must lie in 0..{most} (got {value})")


def finite_representations(teacher: Recommender, data: HeteroData) -> XDict:
    """A teacher's representations of a graph, detached; raise unless all are finite."""
    with inference(teacher):
        x_dict = {key: x.detach() for key, x in represent(teacher, data).items()}
    for node_type, x in x_dict.items():
        if not bool(x.isfinite().all()):
            raise ValueError(f"the teacher's representations of {node_type!r} are not all finite")
    return x_dict


def rank_items(
    teacher: Recommender, x_dict: XDict, seen: Neighbors, k: int, **options: Any
) -> Tensor:
    """Top unseen items of the users ``rows``, or of all, int32 ``[n, k]``, padded with -1."""
    x_user, x_item = x_dict[USER], x_dict[ITEM]

    def score_block(rows: Tensor, cols: slice) -> Tensor:
        return teacher.score_block(x_user[rows], x_item[cols])

    return _table(score_block, x_user, x_item, k, "ranking items", seen=seen, **options)


def rank_users(
    teacher: Recommender, x_dict: XDict, seen: Neighbors, k: int, **options: Any
) -> Tensor:
    """Each item's top users without an edge to it, int32 ``[I, k]``, padded with -1."""
    x_user, x_item = x_dict[USER], x_dict[ITEM]

    def score_block(rows: Tensor, cols: slice) -> Tensor:
        return teacher.score_block(x_user[cols], x_item[rows]).t().contiguous()

    return _table(score_block, x_item, x_user, k, "ranking users", seen=seen, **options)


def _table(
    score_block: ScoreBlock,
    x_row: Tensor,
    x_col: Tensor,
    k: int,
    label: str,
    *,
    rows: Tensor | None = None,
    progress: bool = False,
    **options: Any,
) -> Tensor:
    total, done = len(x_row) if rows is None else len(rows), 0
    ranked = torch.full((total, k), -1, dtype=torch.int32, device=x_row.device)
    with Progress(label, total, unit="row", shown=progress, keep=False) as shown:
        options |= {"rows": rows, "progress": shown.update}
        for block in rank_unseen(score_block, len(x_row), len(x_col), k, **options):
            ranked[done : done + len(block.rows)] = block.ids
            done += len(block.rows)
    return ranked
