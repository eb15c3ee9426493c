"""A world whose tastes are known: whom which item pleases."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.functional.ranking import rank_unseen
from pyg_kd.graph import check_ids, interactions
from pyg_kd.study.simulation.clicks import require_share
from pyg_kd.study.simulation.lists import check_listed
from pyg_kd.typing import ITEM, USER


class TasteWorld:
    r"""Users with two liked groups of items, and the probability that an item pleases a user.

    .. math::
        r_{ui} = c_u\, a_i\, q_{m(u, i)}

    where :math:`m(u, i)` is 1 if item :math:`i` is of the user's first group, 2 if it is of the
    second, and 3 if of neither; :math:`q` are the relevances of these, :math:`a_i` is how
    attractive an item is to whom it suits, and :math:`c_u` how readily a user clicks. Relevance
    of any pairs is computed when asked for; the whole matrix never is.

    Args:
        user_group: The first and the second group of each user, int64 ``[U, 2]``.
        item_group: The group of each item, int64 ``[I]``.
        relevance: :math:`q`, three numbers from 0 to 1.
        attraction: :math:`a`, from 0 to 1, ``[I]``; 1 by default.
        readiness: :math:`c`, from 0 to 1, ``[U]``; 1 by default.

    Raises:
        ValueError: If shapes or devices differ, or a probability lies outside of 0..1.

    Example:
        >>> world = TasteWorld(torch.tensor([[0, 1]]), torch.tensor([0, 1, 2]))
        >>> world.relevance(torch.tensor([0]), torch.tensor([[0, 1, 2, -1]]))
        tensor([[0.6000, 0.3000, 0.0500, 0.0000]], dtype=torch.float64)
    """

    def __init__(
        self,
        user_group: Tensor,
        item_group: Tensor,
        *,
        relevance: Sequence[float] = (0.6, 0.3, 0.05),
        attraction: Tensor | None = None,
        readiness: Tensor | None = None,
    ) -> None:
        if user_group.dim() != 2 or user_group.size(1) != 2:
            raise ValueError(f"'user_group' must be [U, 2] (got {list(user_group.shape)})")
        if item_group.dim() != 1:
            raise ValueError(f"'item_group' must be [I] (got {list(item_group.shape)})")
        if len(relevance) != 3:
            raise ValueError(f"'relevance' must be three numbers (got {len(relevance)})")
        for value in relevance:
            require_share(relevance=value)
        self.user_group, self.item_group = user_group, item_group
        self.by_match = torch.tensor(relevance, dtype=torch.double, device=user_group.device)
        self.attraction = _shares("attraction", attraction, item_group)
        self.readiness = _shares("readiness", readiness, user_group[:, 0])

    @staticmethod
    def from_data(
        data: HeteroData,
        *,
        relevance: Sequence[float] = (0.6, 0.3, 0.05),
        attraction_power: float = 0.0,
        readiness_spread: float = 0.0,
        seed: int = 0,
    ) -> TasteWorld:
        r"""The world of a :class:`~pyg_kd.datasets.SyntheticInteractions` graph.

        Args:
            data: A graph with ``group`` on users ``[U, 2]`` and on items ``[I]``.
            relevance: As of :class:`TasteWorld`.
            attraction_power: Attraction is an item's popularity, as a share of the most popular
                one's, to this power; 0 for equally attractive items.
            readiness_spread: Readiness is uniform between 1 minus this and 1.
            seed: Seed of the readiness.

        Raises:
            ValueError: If the graph has no groups, or an option is out of range.
        """
        for node_type in (USER, ITEM):
            if "group" not in data[node_type]:
                raise ValueError(
                    f"'data[{node_type!r}].group' is not set: known tastes are those of "
                    "SyntheticInteractions"
                )
        require_share(readiness_spread=readiness_spread)
        user_group, item_group = data[USER].group, data[ITEM].group
        degree = interactions(data).by_item().degree.double() + 1
        generator = torch.Generator(user_group.device).manual_seed(seed)
        drawn = torch.rand(
            len(user_group), generator=generator, dtype=torch.double, device=user_group.device
        )
        return TasteWorld(
            user_group,
            item_group,
            relevance=relevance,
            attraction=(degree / degree.max()) ** attraction_power,
            readiness=1 - readiness_spread * drawn,
        )

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.user_group)

    @property
    def num_items(self) -> int:
        """Number of items."""
        return len(self.item_group)

    @property
    def device(self) -> torch.device:
        """Where the tastes are."""
        return self.user_group.device

    def relevance(self, users: Tensor, items: Tensor) -> Tensor:
        """The probability that each item pleases its user.

        Args:
            users: int64 ``[n]``.
            items: int64 ``[n, K]``, padded with -1.

        Returns:
            float64 ``[n, K]``, 0 for padding.

        Raises:
            ValueError: If an id is out of range.
        """
        check_ids("users", users, self.num_users)
        check_listed("items", items, self.num_items)
        found = self._pairs(users, items.clamp(min=0))
        return torch.where(items >= 0, found, 0.0)

    def ideal_lists(self, k: int, data: HeteroData | None = None) -> Tensor:
        """The items that please each user most, int64 ``[U, k]``: no ranking gets more clicks.

        Args:
            k: Length of the lists.
            data: A graph whose edges are left out.
        """
        everything = torch.arange(self.num_items, device=self.device)
        blocks = rank_unseen(
            lambda rows, cols: self._pairs(rows, everything[cols].expand(len(rows), -1)),
            self.num_users,
            self.num_items,
            k,
            seen=None if data is None else interactions(data).by_user(),
            rows=torch.arange(self.num_users, device=self.device),
        )
        return torch.cat([block.ids for block in blocks])

    def _pairs(self, users: Tensor, items: Tensor) -> Tensor:
        group = self.item_group[items]
        first, second = (liked[:, None] for liked in self.user_group[users].unbind(1))
        match = torch.where(group == first, 0, torch.where(group == second, 1, 2))
        return self.by_match[match] * self.attraction[items] * self.readiness[users][:, None]

    def __repr__(self) -> str:
        return f"TasteWorld({self.num_users}, {self.num_items})"


def _shares(name: str, values: Tensor | None, like: Tensor) -> Tensor:
    if values is None:
        return torch.ones(like.shape, dtype=torch.double, device=like.device)
    if values.shape != like.shape or values.device != like.device:
        raise ValueError(
            f"{name!r} must be {list(like.shape)} on {like.device} "
            f"(got {list(values.shape)} on {values.device})"
        )
    outside = ~((values >= 0) & (values <= 1))
    if bool(outside.any()):
        raise ValueError(f"{name!r} must lie in 0..1 (got {float(values[outside][0])})")
    return values.double()
