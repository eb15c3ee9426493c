"""Sparse linear models: every item from its nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.index import index2ptr

from pyg_kd.checks import require_at_least, require_count, require_positive
from pyg_kd.functional.co_interactions import bounded_parts
from pyg_kd.functional.sparse_blocks import product_block
from pyg_kd.graph import Neighbors, entries_of, interactions
from pyg_kd.models.fitted import Fitted, hold_pattern, hold_sparse, pattern, sparse
from pyg_kd.models.neighbors import nearest
from pyg_kd.typing import USER

#: Entries of the matrices solved at once; that of an item stays together.
MAX_ENTRIES = 2**22

#: Entries of the matrices multiplied at once, and how much faster a product of dense matrices is
#: than a sum over single pairs.
MAX_DENSE, FACTOR = 2**24, 100


class SLIM(Fitted):
    r"""A sparse linear model of every item on its nearest neighbours, as fsSLIM of `"SLIM: Sparse
    Linear Methods for Top-N Recommender Systems" <https://doi.org/10.1109/ICDM.2011.134>`_.

    .. math::
        S = X W, \qquad w_i = \arg\min_w \sum_u |N_u|^{-q} \Big(x_{ui} - \sum_{j \in N_k(i)}
        w_j x_{uj}\Big)^2 + \lambda \sum_{j \in N_k(i)} |N_j|^{p} w_j^2

    with :math:`N_k(i)` the :math:`k` items most similar to :math:`i` by the cosine of their users;
    those as similar as the last of them are neighbours too. The penalty is relative,

    .. math::
        \lambda = \frac{c}{I} \sum_j |N_j|^{-p} \sum_{u \in N_j} |N_u|^{-q}

    Where the paper has an elastic net with weights of 0 or more, here the neighbours are what
    makes the weights sparse, and each column is a ridge regression in closed form: a system of
    :math:`k` equations, many of them solved at once, with memory for the edges, the weights and
    one block. Scores are not inner products of narrow vectors: representations are the ids of
    users and items, int64 ``[U, 1]`` and ``[I, 1]``.

    Args:
        data: The training graph. The model is tied to its edges and refuses other graphs.
        num_neighbors: :math:`k`.
        shrinkage: :math:`c`.
        item_power: :math:`p`, how much rare items count more.
        user_power: :math:`q`, how much users with few items count more.

    Raises:
        ValueError: If an option is out of range, the graph has no edges, or a system is singular
            in float32.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> model = SLIM(data, num_neighbors=5)
        >>> x_dict = model(data)
        >>> model.score_block(x_dict["user"][:2], x_dict["item"]).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        data: HeteroData,
        num_neighbors: int = 100,
        *,
        shrinkage: float = 3.0,
        item_power: float = 0.5,
        user_power: float = 0.0,
    ) -> None:
        super().__init__(data, dim=1)
        require_count(num_neighbors=num_neighbors)
        require_positive(shrinkage=shrinkage)
        require_at_least(0, item_power=item_power, user_power=user_power)
        self.num_neighbors, self.shrinkage = num_neighbors, shrinkage
        self.item_power, self.user_power = item_power, user_power
        hold_pattern(self, data, (USER,))
        edges = interactions(data)
        by_user, by_item = edges.by_user(), edges.by_item()
        if not len(by_user.col):
            raise ValueError("'data' has no interactions to learn from")
        item, neighbor, _ = nearest(by_item, by_user, num_neighbors)
        near = Neighbors(index2ptr(item, self.num_items), neighbor)
        weight = by_user.degree.double().clamp(min=1) ** -user_power
        penalty = by_item.degree.double().clamp(min=1) ** item_power
        mean = (weight[by_item.col] / penalty[by_item.row]).sum() / self.num_items
        found = _weights(near, by_item, weight.float(), (shrinkage * mean * penalty).float())
        if not bool(found.isfinite().all()):
            raise ValueError(
                "'shrinkage' is too small for this graph: a system is singular in float32 "
                f"(got {shrinkage})"
            )
        hold_sparse(self, "weight", neighbor, item, found, self.num_items)

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        """Scores of every pair of the users and items with these ids, ``[b, t]``."""
        sides = pattern(self, USER), sparse(self, "weight")
        return product_block(*sides, x_user.squeeze(1), x_item.squeeze(1), self.num_items)

    def __repr__(self) -> str:
        return (
            f"SLIM({self.num_users}, {self.num_items}, num_neighbors={self.num_neighbors}, "
            f"shrinkage={self.shrinkage}, item_power={self.item_power}, "
            f"user_power={self.user_power})"
        )


def _weights(near: Neighbors, by_item: Neighbors, weight: Tensor, penalty: Tensor) -> Tensor:
    """The weight of every neighbour, beside ``near.col``; NaN where a system is singular."""
    found = weight.new_zeros(len(near.col))
    for items, width in _blocks(near.degree):
        index, entry = entries_of(near.ptr, items)
        place = entry - near.ptr[items][index]
        # The item itself comes after its neighbours.
        nodes = items.new_full((len(items), width + 1), -1)
        nodes[index, place] = near.col[entry]
        nodes[:, width] = items
        gram = local_grams(nodes, by_item, weight)
        system, target = gram[:, :width, :width].contiguous(), gram[:, :width, width:]
        # A row of padding has an equation of its own, whose solution is 0.
        system.diagonal(dim1=1, dim2=2).add_(penalty[nodes[:, :width]])
        factor, info = torch.linalg.cholesky_ex(system)
        solved = torch.cholesky_solve(target, factor).squeeze(2)
        found[entry] = solved.masked_fill_(info.unsqueeze(1) != 0, torch.nan)[index, place]
    return found


def _blocks(degree: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Items with neighbours, those with equally many together, and the most of a block."""
    width, order = degree.sort()
    start = int((width == 0).sum())
    while start < len(order):
        most = MAX_ENTRIES // (int(width[start]) + 1) ** 2
        end = min(start + max(most, 1), len(order))
        # The widest of the block decides how many fit.
        while end > start + 1 and (end - start) * (int(width[end - 1]) + 1) ** 2 > MAX_ENTRIES:
            end = start + (end - start + 1) // 2
        yield order[start:end], int(width[end - 1])
        start = end


def local_grams(nodes: Tensor, by_item: Neighbors, weight: Tensor) -> Tensor:
    r"""For every row of items the weighted inner products of their users.

    Args:
        nodes: Item ids, distinct in each row, int64 ``[b, m]``, padded with -1.
        by_item: The users of every item.
        weight: The weight of every user, ``[U]``.

    Returns:
        ``[b, m, m]``, zeros where one is padding.
    """
    count, size = nodes.shape
    listed = (nodes.flatten() >= 0).nonzero().squeeze(1)
    place, user = by_item.of(nodes.flatten()[listed])
    node = listed[place]
    # The nodes of a row that a user interacted with stand together.
    key, order = (node // size * len(weight) + user).sort()
    node, user = node[order], user[order]
    found, group, times = key.unique_consecutive(return_inverse=True, return_counts=True)
    row = found // len(weight)
    users = torch.bincount(row, minlength=count)
    most = int(users.amax())
    if count * most * size**2 > FACTOR * int(times.square().sum()):
        return _by_pairs(node, group, times, weight[user], count, size)
    if count > 1 and count * most * size > MAX_DENSE:
        return torch.cat([local_grams(half, by_item, weight) for half in nodes.chunk(2)])
    dense = weight.new_zeros(count, most, size)
    start = users.cumsum(0) - users
    dense[row[group], group - start[row[group]], node % size] = weight[user].sqrt()
    return dense.transpose(1, 2) @ dense


def _by_pairs(
    node: Tensor, group: Tensor, times: Tensor, weight: Tensor, count: int, size: int
) -> Tensor:
    """The inner products, summed over pairs of nodes in the same group."""
    together = Neighbors(torch.cat([times.new_zeros(1), times.cumsum(0)]), node % size)
    gram = weight.new_zeros(count * size * size)
    for part in bounded_parts(times[group], MAX_ENTRIES):
        index, other = together.of(group[part])
        entry = part[index]
        gram.index_add_(0, node[entry] * size + other, weight[entry])
    return gram.view(count, size, size)
