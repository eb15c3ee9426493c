"""The part of a graph that can be trained on: nodes that have something to learn from."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.graph import interactions
from pyg_kd.study.refresh.tables import Tables
from pyg_kd.transforms.selection import select_
from pyg_kd.typing import ITEM, USER, XDict


class Part(NamedTuple):
    r"""Some nodes of a graph, renumbered, with the edges among them.

    Args:
        graph: The part.
        user: The old number of each of its users, int64, ascending.
        item: The old number of each of its items.
    """

    graph: HeteroData
    user: Tensor
    item: Tensor


def part_of(graph: HeteroData, users: Tensor | None = None, items: Tensor | None = None) -> Part:
    r"""The part of a graph with some users and items, less users without an edge in it.

    Args:
        graph: The graph.
        users: Who may stay, bool ``[U]``; by default everybody.
        items: What stays, bool ``[I]``; by default what has an edge.

    Raises:
        ValueError: If no edge stays.
    """
    edge_index, num_users, num_items = interactions(graph)
    user, item = edge_index
    kept = torch.ones_like(user, dtype=torch.bool) if users is None else users[user]
    if items is not None:
        kept = kept & items[item]
    if not bool(kept.any()):
        raise ValueError("'graph' must have edges among what stays (got none)")
    left = torch.zeros(num_users, dtype=torch.bool, device=user.device)
    left[user[kept]] = True
    if items is None:
        items = torch.zeros(num_items, dtype=torch.bool, device=user.device)
        items[item[kept]] = True
    ids = {USER: left.nonzero().view(-1), ITEM: items.nonzero().view(-1)}
    found = select_(copy.copy(graph), kept.nonzero().view(-1), ids)
    return Part(found, ids[USER], ids[ITEM])


def spread(part: Part, x_dict: XDict, num_users: int, num_items: int) -> Tables:
    """Vectors of a part as tables of the whole timeline."""
    found = []
    for key, ids, size in ((USER, part.user, num_users), (ITEM, part.item, num_items)):
        x = x_dict[key].detach().float()
        table = x.new_zeros(size, x.size(1))
        table[ids] = x
        has = torch.zeros(size, dtype=torch.bool, device=x.device)
        has[ids] = True
        found.append((table, has))
    (user, has_user), (item, has_item) = found
    return Tables(user, item, has_user, has_item)
