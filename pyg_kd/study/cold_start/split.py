"""Holding out whole users and items, so that a model meets them after its training."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count, require_positive
from pyg_kd.datasets.graph import interaction_graph
from pyg_kd.graph import Interactions, Neighbors, interactions, sorted_neighbors


class ColdSplit(NamedTuple):
    """A training graph without some users and items, and what is known of these later.

    Users and items are numbered anew, the warm ones first, so that a model of ``train`` has the
    rows ``0..W-1`` of both sides.

    Args:
        train: Warm users and items alone, with the edges between them that are not targets.
        user: The number in the original graph of each user, warm then cold, int64 ``[U]``.
        item: The same of items, int64 ``[I]``.
        num_users: How many users are warm.
        num_items: How many items are warm.
        shown_items: Of each cold user, the warm items that may be shown, in a random order.
        shown_users: Of each cold item, the warm users that may be shown, in a random order.
        targets: All pairs to be found, users and items in the new numbers, int64 ``[2, E]``.
    """

    train: HeteroData
    user: Tensor
    item: Tensor
    num_users: int
    num_items: int
    shown_items: Neighbors
    shown_users: Neighbors
    targets: Tensor

    def __repr__(self) -> str:
        cold = len(self.user) - self.num_users, len(self.item) - self.num_items
        return (
            f"ColdSplit({self.num_users} + {cold[0]} users, {self.num_items} + {cold[1]} items, "
            f"{self.targets.size(1)} targets)"
        )


def cold_split(
    data: HeteroData,
    *,
    users: float = 0.1,
    items: float = 0.1,
    user_shots: int = 10,
    item_shots: int = 0,
    test: float = 0.2,
    seed: int = 0,
) -> ColdSplit:
    r"""Take users and items at random out of a graph, edges and all.

    A cold user keeps ``user_shots`` of its warm items to be shown, a cold item ``item_shots`` of
    its warm users; all their other edges are targets. Of the edges between warm users and items a
    share ``test`` are targets too, but a user's last one never is. Users with too few warm items
    to show and to find are not taken for cold ones, so that each number of shots is measured on the
    same users: these are more active than the rest.

    Args:
        data: A user-item graph.
        users: Share of the users that are cold, among those with enough items.
        items: Share of the items that are cold.
        user_shots: Items of a cold user that may be shown.
        item_shots: Users of a cold item that may be shown; 0 where its features will do.
        test: Share of the edges between warm users and items that are targets.
        seed: Of all draws. The global random state is not touched.

    Raises:
        ValueError: If a share is out of range, or nobody has enough items.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(num_users=100, num_items=60, num_edges=2_000)[0]
        >>> split = cold_split(data)
        >>> len(split.user), len(split.item), split.train["item"].num_nodes
        (100, 60, 54)
    """
    require_count(user_shots=user_shots)
    require_count(0, item_shots=item_shots)
    for name, share in (("users", users), ("items", items), ("test", test)):
        require_positive(**{name: share})
        if share >= 1:
            raise ValueError(f"{name!r} must be below 1 (got {share})")
    edges, generator = interactions(data), Generator().manual_seed(seed)
    pairs = _pairs(edges)
    cold_item = _chosen(
        torch.arange(edges.num_items, device="cpu"), items, edges.num_items, generator
    )
    warm_degree = torch.bincount(pairs[0][~cold_item[pairs[1]]], minlength=edges.num_users)
    enough = (warm_degree > user_shots).nonzero().squeeze(1)
    cold_user = _chosen(enough, users, edges.num_users, generator)
    if not bool(cold_user.any()):
        raise ValueError(
            f"'user_shots' must leave users with an item to find, of {len(enough)} with enough "
            f"items a share of {users} are cold (got {user_shots})"
        )
    # A warm user without a warm item can't be trained: its edges are left out.
    idle = (warm_degree == 0) & ~cold_user
    pairs = pairs[:, ~idle[pairs[0]]]
    return _arranged(pairs, cold_user, idle, cold_item, (user_shots, item_shots), test, generator)


def _arranged(
    pairs: Tensor,
    cold_user: Tensor,
    idle: Tensor,
    cold_item: Tensor,
    shots: tuple[int, int],
    test: float,
    generator: Generator,
) -> ColdSplit:
    """Number everything anew, and tell what is trained on, shown and to be found."""
    user, user_place = _numbered(cold_user, ~idle)
    item, item_place = _numbered(cold_item, torch.ones_like(cold_item))
    num_users, num_items = len(user) - int(cold_user.sum()), len(item) - int(cold_item.sum())
    # In a random order, in which edges are shown, or become targets.
    pairs = pairs[:, torch.randperm(pairs.size(1), generator=generator, device="cpu")]
    pairs = torch.stack([user_place[pairs[0]], item_place[pairs[1]]])
    new_user, new_item = pairs[0] >= num_users, pairs[1] >= num_items
    warm = ~new_user & ~new_item
    held = warm & _held(pairs, warm, test, num_users)
    shown = new_user & ~new_item & (_rank(pairs[0], new_user & ~new_item) < shots[0])
    told = ~new_user & new_item & (_rank(pairs[1], ~new_user & new_item) < shots[1])
    train = pairs[:, warm & ~held]
    return ColdSplit(
        interaction_graph(train[0], train[1], num_users, num_items),
        user,
        item,
        num_users,
        num_items,
        _grouped(pairs[0][shown] - num_users, pairs[1][shown], len(user) - num_users),
        _grouped(pairs[1][told] - num_items, pairs[0][told], len(item) - num_items),
        pairs[:, ~(warm & ~held) & ~shown & ~told],
    )


def _pairs(edges: Interactions) -> Tensor:
    """The distinct edges on the CPU, int64 ``[2, E]``: what is drawn depends on no device."""
    seen = edges.by_user()
    return torch.stack([seen.row, seen.col]).cpu()


def _chosen(among: Tensor, share: float, size: int, generator: Generator) -> Tensor:
    """A share of some nodes at random, one at least, bool ``[size]``."""
    chosen = torch.zeros(size, dtype=torch.bool, device="cpu")
    count = max(round(share * len(among)), 1)
    chosen[among[torch.randperm(len(among), generator=generator, device="cpu")[:count]]] = True
    return chosen


def _numbered(cold: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The nodes that are kept, the warm ones first, and the place of each; -1 for others."""
    nodes = torch.cat([(kept & ~cold).nonzero(), cold.nonzero()]).squeeze(1)
    place = torch.full((len(cold),), -1, device=cold.device)
    place[nodes] = torch.arange(len(nodes), device=cold.device)
    return nodes, place


def _rank(node: Tensor, among: Tensor) -> Tensor:
    """How many edges of the same node come before each edge, among some; int64 like ``node``."""
    rank = torch.zeros_like(node)
    place = among.nonzero().squeeze(1)
    order = node[place].sort(stable=True)
    first = torch.searchsorted(order.values, order.values)
    rank[place[order.indices]] = torch.arange(len(place), device=node.device) - first
    return rank


def _held(pairs: Tensor, warm: Tensor, test: float, num_users: int) -> Tensor:
    """Which edges between warm nodes are targets: a share of each user's, never the last."""
    rank = _rank(pairs[0], warm)
    degree = torch.bincount(pairs[0][warm], minlength=len(pairs[0]) + num_users)
    count = (degree * test + 0.5).long().minimum(degree - 1)
    return rank < count[pairs[0]]


def _grouped(row: Tensor, col: Tensor, num_rows: int) -> Neighbors:
    """``col`` by ``row``, in the order in which they come."""
    order = row.sort(stable=True).indices
    ptr = torch.zeros(num_rows + 1, dtype=torch.long, device=row.device)
    ptr[1:] = torch.bincount(row, minlength=num_rows).cumsum(0)
    return Neighbors(ptr, col[order])


def first_of(rows: Neighbors, count: int) -> Neighbors:
    """The first few neighbours of each row, ascending."""
    place = torch.arange(len(rows.col), device=rows.col.device) - rows.ptr[rows.row]
    kept = place < count
    size = int(rows.col.max()) + 1 if len(rows.col) else 1
    return sorted_neighbors(rows.row[kept], rows.col[kept], len(rows.degree), size)
