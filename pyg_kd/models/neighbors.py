"""Nearest neighbours of items and of users."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_at_least, require_count
from pyg_kd.functional.co_interactions import among_largest, co_interactions
from pyg_kd.functional.sparse_blocks import product_block
from pyg_kd.graph import Neighbors, interactions
from pyg_kd.models.fitted import Fitted, hold_pattern, hold_sparse, pattern, sparse
from pyg_kd.typing import ITEM, USER


class _Nearest(Fitted):
    """What both kinds of neighbours share."""

    #: Which entities have neighbours.
    near_side: ClassVar[str]

    def __init__(
        self,
        data: HeteroData,
        num_neighbors: int = 100,
        *,
        shrinkage: float = 0.0,
        power: float = 0.5,
        other_power: float = 0.5,
    ) -> None:
        super().__init__(data, dim=1)
        require_count(num_neighbors=num_neighbors)
        require_at_least(0, shrinkage=shrinkage, power=power, other_power=other_power)
        self.num_neighbors, self.shrinkage = num_neighbors, shrinkage
        self.power, self.other_power = power, other_power
        hold_pattern(self, data, (USER,))
        edges = interactions(data)
        own, other = edges.by_user(), edges.by_item()
        if self.near_side == ITEM:
            own, other = other, own
        entity, neighbor, near = nearest(
            own, other, num_neighbors, shrinkage=shrinkage, power=power, other_power=other_power
        )
        # Users meet the items of their neighbours, and items are met by those of a user.
        rows, cols = (entity, neighbor) if self.near_side == USER else (neighbor, entity)
        hold_sparse(self, "near", rows, cols, near.float(), len(own.degree))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_users}, {self.num_items}, "
            f"num_neighbors={self.num_neighbors}, shrinkage={self.shrinkage}, power={self.power}, "
            f"other_power={self.other_power})"
        )


def nearest(
    own: Neighbors,
    other: Neighbors,
    k: int,
    *,
    shrinkage: float = 0.0,
    power: float = 0.5,
    other_power: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Entities, ascending, their ``k`` nearest others, ascending too, and their similarities.

    Those as near as the last of them count too.
    """
    weight = other.degree.double().clamp(min=1) ** -other_power
    size = own.degree.double() ** power
    found = [(own.ptr[:0], own.ptr[:0], size[:0])]
    for row, col, shared in co_interactions(own, other, weight):
        near = shared / (size[row] * size[col] + shrinkage)
        kept = among_largest(row, near, k, len(size))
        found.append((row[kept], col[kept], near[kept]))
    row, col, near = (torch.cat(parts) for parts in zip(*found, strict=True))
    return row, col, near


class ItemKNN(_Nearest):
    r"""Nearest neighbours of items, as in `"Item-Based Top-N Recommendation Algorithms"
    <https://doi.org/10.1145/963770.963776>`_.

    .. math::
        S_{ui} = \sum_{j \in N_u \cap N_k(i)} s_{ij}, \qquad
        s_{ij} = \frac{\sum_{v \in N_i \cap N_j} |N_v|^{-q}}{(|N_i| \, |N_j|)^p + h}

    with :math:`N_u` the items of a user, :math:`N_i` the users of an item and :math:`N_k(i)` the
    :math:`k` items most similar to :math:`i`; those as similar as the last of them are neighbours
    too. With :math:`p = 1/2` and :math:`q = h = 0` the similarity is the cosine. Users with many
    items say less about each of them (:math:`q`), and :math:`h` keeps items with few users from
    being similar by chance.

    Similarities are counted in blocks of items, so memory is that of the edges and of the
    neighbours. Scores are not inner products of narrow vectors: representations are the ids of
    users and items, int64 ``[U, 1]`` and ``[I, 1]``.

    Args:
        data: The training graph. The model is tied to its edges and refuses other graphs.
        num_neighbors: :math:`k`.
        shrinkage: :math:`h`.
        power: :math:`p`.
        other_power: :math:`q`.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> model = ItemKNN(data, num_neighbors=3)
        >>> x_dict = model(data)
        >>> model.score_block(x_dict["user"][:2], x_dict["item"]).shape
        torch.Size([2, 10])
    """

    near_side = ITEM

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        """Scores of every pair of the users and items with these ids, ``[b, t]``."""
        sides = pattern(self, USER), sparse(self, "near")
        return product_block(*sides, x_user.squeeze(1), x_item.squeeze(1), self.num_items)


class UserKNN(_Nearest):
    r"""Nearest neighbours of users: what similar users have, by how similar they are.

    .. math::
        S_{ui} = \sum_{v \in N_i \cap N_k(u)} s_{uv}, \qquad
        s_{uv} = \frac{\sum_{j \in N_u \cap N_v} |N_j|^{-q}}{(|N_u| \, |N_v|)^p + h}

    The other side of :class:`ItemKNN`, with the same options: here popular items say less about
    their users.

    Args:
        data: The training graph. The model is tied to its edges and refuses other graphs.
        num_neighbors: :math:`k`.
        shrinkage: :math:`h`.
        power: :math:`p`.
        other_power: :math:`q`.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> model = UserKNN(data, num_neighbors=3)
        >>> x_dict = model(data)
        >>> model.score_block(x_dict["user"][:2], x_dict["item"]).shape
        torch.Size([2, 10])
    """

    near_side = USER

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        """Scores of every pair of the users and items with these ids, ``[b, t]``."""
        sides = sparse(self, "near"), pattern(self, USER)
        return product_block(*sides, x_user.squeeze(1), x_item.squeeze(1), self.num_items)
