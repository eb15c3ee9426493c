"""Teacher -> knowledge: its representations and rankings become graph data."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from tqdm.auto import tqdm

from pyg_kd.functional.ranking import rank_unseen
from pyg_kd.graph import Neighbors, as_ids, interactions
from pyg_kd.knowledge.requirements import graph_fingerprint, model_fingerprint, name_source
from pyg_kd.models.base import Recommender
from pyg_kd.models.inference import inference, represent
from pyg_kd.typing import ITEM, USER, XDict

#: Items kept for each user, where the catalogue has so many.
DEFAULT_ITEMS = 500


@torch.no_grad()
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
) -> HeteroData:
    r"""Write down what a trained teacher knows about a graph.

    The result is ``data``, copied shallowly, with

    * ``data["user"].teacher_x``, ``data["item"].teacher_x``: the teacher's
      final representations, ``[U, d_t]`` and ``[I, d_t]``, where it has a space
      of vectors (``teacher.latent``),
    * ``data["user"].teacher_items``: of the items a user has no edge to, the
      best ``num_items`` in order, int32 ``[U, num_items]``, padded with -1,
    * ``data["item"].teacher_users``: of the users an item has no edge to, the
      best ``num_users`` in order, int32 ``[I, num_users]``, padded with -1,
    * ``data.graph_fingerprint`` and ``data.teacher_fingerprint``, by which
      knowledge of another graph is refused,
    * ``data.teacher_inner_product``: whether inner products of ``teacher_x``
      are the teacher's scores.

    Vectors and lists of another teacher do not stay beside those of this one.
    Users are ranked in blocks and items in tiles: nothing with users times
    items entries is allocated.

    Args:
        teacher: A trained model.
        data: The graph it was trained on.
        num_items: Items kept for each user; 0 for none. By default 500, or all of a smaller
            catalogue.
        num_users: Users kept for each item; 0 (default) for none.
        users: Rank for these users only, ``[n]`` integers; the others get -1.
        row_block: Rows ranked at once.
        col_tile: Columns ranked at once.
        progress: Show a progress bar.

    Raises:
        TypeError: If ``teacher`` is no recommender.
        ValueError: If the sizes of graph and teacher differ, a representation
            is NaN, or a list is longer than what it ranks.
    """
    if not isinstance(teacher, Recommender):
        raise TypeError(
            f"'teacher' must be a Recommender (got {type(teacher).__name__}): vectors of another "
            "model become one by Recommender.from_embeddings(data, x_user, x_item)"
        )
    teacher.check_data(data)
    edges = interactions(data)
    edge_index, all_users, all_items = edges
    num_items = min(DEFAULT_ITEMS, all_items) if num_items is None else num_items
    for name, value, limit in (
        ("num_items", num_items, all_items),
        ("num_users", num_users, all_users),
    ):
        if not 0 <= value <= limit:
            raise ValueError(f"{name!r} must lie in 0..{limit} (got {value})")
    if users is not None:
        users = as_ids("users", users, all_users, edge_index.device)
    with inference(teacher):
        x_dict = {key: x.detach() for key, x in represent(teacher, data).items()}
    for node_type, x in x_dict.items():
        if not bool(x.isfinite().all()):
            raise ValueError(f"the teacher's representations of {node_type!r} are not all finite")

    graph = copy.copy(data)
    name_source(graph, graph_fingerprint(data), model_fingerprint(teacher))
    graph.teacher_inner_product = teacher.inner_product
    if teacher.latent:
        for node_type in (USER, ITEM):
            graph[node_type].teacher_x = x_dict[node_type].clone()
    blocks: dict[str, Any] = {"row_block": row_block, "col_tile": col_tile, "progress": progress}
    if num_items:
        seen = edges.by_user()
        graph[USER].teacher_items = _rank(teacher, x_dict, False, seen, num_items, users, **blocks)
    if num_users:
        seen = edges.by_item()
        graph[ITEM].teacher_users = _rank(teacher, x_dict, True, seen, num_users, None, **blocks)
    return graph


def _rank(
    teacher: Recommender,
    x_dict: XDict,
    by_item: bool,
    seen: Neighbors,
    k: int,
    rows: Tensor | None,
    *,
    progress: bool,
    **blocks: Any,
) -> Tensor:
    x_row, x_col = (x_dict[ITEM], x_dict[USER]) if by_item else (x_dict[USER], x_dict[ITEM])

    def score_block(rows: Tensor, cols: slice) -> Tensor:
        if by_item:
            return teacher.score_block(x_col[cols], x_row[rows]).t().contiguous()
        return teacher.score_block(x_row[rows], x_col[cols])

    ranked = torch.full((len(x_row), k), -1, dtype=torch.int32, device=x_row.device)
    total = len(x_row) if rows is None else len(rows)
    label = "ranking users" if by_item else "ranking items"
    with tqdm(total=total, desc=label, unit="row", disable=not progress, leave=False) as bar:
        for block in rank_unseen(
            score_block,
            len(x_row),
            len(x_col),
            k,
            seen=seen,
            rows=rows,
            progress=bar.update,
            **blocks,
        ):
            ranked[block.rows] = block.ids.to(torch.int32)
    return ranked
