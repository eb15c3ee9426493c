"""Teacher -> knowledge: its representations and rankings become graph data."""

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
from pyg_kd.knowledge.popularity import weakness
from pyg_kd.knowledge.requirements import graph_fingerprint, model_fingerprint, name_source
from pyg_kd.models.base import Recommender
from pyg_kd.models.inference import inference, represent
from pyg_kd.progress import Progress
from pyg_kd.typing import ITEM, USER, XDict

#: Items kept for each user, where the catalogue has so many.
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
    r"""Attach what a trained teacher knows about a graph to the graph.

    The result is ``data``, copied shallowly, with

    * ``data["user"].teacher_x``, ``data["item"].teacher_x``: the teacher's
      final representations, ``[U, d_t]`` and ``[I, d_t]``, if they are embeddings
      (``teacher.latent``),
    * ``data["user"].teacher_items``: the best ``num_items`` items that a user has
      no edge to, in order, int32 ``[U, num_items]``, padded with -1,
    * ``data["item"].teacher_users``: the best ``num_users`` users that an item has
      no edge to, in order, int32 ``[I, num_users]``, padded with -1,
    * ``data.graph_fingerprint`` and ``data.teacher_fingerprint``, so that knowledge
      from another graph is refused,
    * ``data.teacher_inner_product``: whether inner products of ``teacher_x``
      are the teacher's scores.

    Embeddings and lists of another teacher are dropped.
    Users are ranked in blocks and items in tiles: nothing with users times
    items entries is allocated.

    Args:
        teacher: A trained model.
        data: The graph it was fitted on.
        num_items: Items kept for each user; 0 for none. By default 500, or all of a smaller
            catalogue.
        num_users: Users kept for each item; 0 (default) for none.
        users: Rank for these users only, ``[n]`` integers; the others get -1.
        row_block: Rows ranked at once.
        col_tile: Columns ranked at once.
        progress: Show progress on the standard error stream.
        trusted: Accept a teacher that was fitted on another graph, which may have seen targets
            that ``data`` holds back. A model knows its graph if a
            :class:`~pyg_kd.training.Trainer` fitted it; of vectors from elsewhere
            (:meth:`~pyg_kd.models.Recommender.from_embeddings`) and of loops of your own nobody
            knows, unless you set ``teacher.fitted_on = graph_fingerprint(data)``.
        val_data: A graph with targets in ``edge_label_index``. With it, a teacher whose lists are
            no better than the most popular unseen items, by NDCG at 20, gives a warning.

    Raises:
        TypeError: If ``teacher`` is not a recommender, or a length not an integer.
        ValueError: If the teacher is of another size or was fitted on another graph, a
            representation is not finite, or a list is longer than what it ranks.
    """
    check_teacher(teacher, data, trusted)
    edges = interactions(data)
    num_items = min(DEFAULT_ITEMS, edges.num_items) if num_items is None else num_items
    check_length("num_items", num_items, edges.num_items)
    check_length("num_users", num_users, edges.num_users)
    if val_data is not None and not num_items:
        raise ValueError(f"'val_data' tells how good lists are, and 'num_items' is {num_items}")
    if users is not None:
        users = node_ids(data, USER, "users", users)
    x_dict = finite_representations(teacher, data)

    graph = copy.copy(data)
    name_source(graph, graph_fingerprint(data), model_fingerprint(teacher))
    graph.teacher_inner_product = teacher.inner_product
    if teacher.latent:
        for node_type in (USER, ITEM):
            graph[node_type].teacher_x = x_dict[node_type].clone()
    blocks: dict[str, Any] = {"row_block": row_block, "col_tile": col_tile, "progress": progress}
    if num_items:
        lists = rank_items(teacher, x_dict, edges.by_user(), num_items, rows=users, **blocks)
        graph[USER].teacher_items = lists
        if val_data is not None and (message := weakness(lists, data, val_data)) is not None:
            warnings.warn(message, stacklevel=2)
    if num_users:
        lists = rank_users(teacher, x_dict, edges.by_item(), num_users, **blocks)
        graph[ITEM].teacher_users = lists
    return graph


def check_teacher(teacher: Recommender, data: HeteroData, trusted: bool = False) -> None:
    """Raise unless ``teacher`` is a model of this graph, as far as it knows."""
    if not isinstance(teacher, Recommender):
        raise TypeError(
            f"'teacher' must be a Recommender (got {type(teacher).__name__}): vectors of another "
            "model become one by Recommender.from_embeddings(data, x_user, x_item)"
        )
    teacher.check_data(data)
    found = graph_fingerprint(data)
    if not trusted and teacher.fitted_on not in (None, found):
        raise ValueError(
            f"'teacher' was fitted on another graph (fingerprint {teacher.fitted_on:.12}, that of "
            f"'data' is {found:.12}) and may have seen targets that 'data' holds back: fit it on "
            "'data', or pass trusted=True if it has not"
        )


def check_length(name: str, value: int, most: int) -> None:
    """Raise unless the length of a list is an integer from 0 to ``most``."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name!r} must be an integer (got {value!r})")
    if not 0 <= value <= most:
        raise ValueError(f"{name!r} must lie in 0..{most} (got {value})")


def finite_representations(teacher: Recommender, data: HeteroData) -> XDict:
    """What a teacher makes of a graph, without gradient; an error where it is not finite."""
    with inference(teacher):
        x_dict = {key: x.detach() for key, x in represent(teacher, data).items()}
    for node_type, x in x_dict.items():
        if not bool(x.isfinite().all()):
            raise ValueError(f"the teacher's representations of {node_type!r} are not all finite")
    return x_dict


def rank_items(
    teacher: Recommender, x_dict: XDict, seen: Neighbors, k: int, **options: Any
) -> Tensor:
    """The best unseen items of every user, int32 ``[U, k]``, padded with -1."""
    x_user, x_item = x_dict[USER], x_dict[ITEM]

    def score_block(rows: Tensor, cols: slice) -> Tensor:
        return teacher.score_block(x_user[rows], x_item[cols])

    return _table(score_block, x_user, x_item, k, "ranking items", seen=seen, **options)


def rank_users(
    teacher: Recommender, x_dict: XDict, seen: Neighbors, k: int, **options: Any
) -> Tensor:
    """The best users of every item, of those without an edge: int32 ``[I, k]``, padded with -1."""
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
    ranked = torch.full((len(x_row), k), -1, dtype=torch.int32, device=x_row.device)
    total = len(x_row) if rows is None else len(rows)
    with Progress(label, total, unit="row", shown=progress, keep=False) as shown:
        options |= {"rows": rows, "progress": shown.update}
        for block in rank_unseen(score_block, len(x_row), len(x_col), k, **options):
            ranked[block.rows] = block.ids.to(torch.int32)
    return ranked
