"""Recommenders that share the parameters of a multi-head model: one head, or their consensus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count, require_positive
from pyg_kd.functional.consensus import Head, consensus
from pyg_kd.functional.ranking import top_unseen
from pyg_kd.graph import interactions
from pyg_kd.models.base import Recommender
from pyg_kd.typing import ITEM, USER, XDict

#: float32 represents ids exactly up to here.
MAX_ITEMS = 2**24


class View(Recommender):
    """Base class of recommenders that share the sizes and parameters of a model.

    Args:
        model: The model, which is shared and not copied.
    """

    def __init__(self, model: Recommender) -> None:
        nn.Module.__init__(self)  # skips Recommender's: no tables besides the model's
        self.model, self._cached = model, None
        self.num_users, self.num_items, self.dim = model.num_users, model.num_items, model.dim

    @property
    def fitted_on(self) -> str | None:
        """The fingerprint of the graph that the model was fitted on."""
        return self.model.fitted_on

    @fitted_on.setter
    def fitted_on(self, fingerprint: str | None) -> None:
        self.model.fitted_on = fingerprint

    def reset_parameters(self) -> None:
        """Reinitialise the parameters of the model."""
        self.model.reset_parameters()


class HeadView(View):
    r"""One head of a :class:`~pyg_kd.models.MultiBranch`, to evaluate, to teach or to serve.

    Scores are inner products of its representations; a head that scores by distance has two extra
    columns, see :class:`~pyg_kd.functional.consensus.Head`.

    Args:
        model: The model, which is shared and not copied.
        head: Where to find the head in the representations of the model.
    """

    structure: ClassVar[tuple[str, ...]] = ("head",)

    def __init__(self, model: Recommender, head: Head) -> None:
        super().__init__(model)
        self.head = head

    @property
    def out_dim(self) -> int:
        """Width of the vectors of the head."""
        return self.head.stop - self.head.start + 2 * (self.head.kind == "distance")

    def forward(self, data: HeteroData) -> XDict:
        """The vectors of the head."""
        x_dict = self.model(data)
        x_user, x_item = self.head.vectors(x_dict[USER], x_dict[ITEM])
        return {USER: x_user, ITEM: x_item}

    def __repr__(self) -> str:
        return f"HeadView({self.model}, {self.head.name!r})"


class Consensus(View):
    r"""The consensus of the heads of a :class:`~pyg_kd.models.MultiBranch`, to serve or to teach.

    .. math::
        s_{ui} = \sum_{x:\, r_x(u, i) < K} e^{-r_x(u, i) / T}

    with :math:`r_x(u, i)` the rank of the item, from 0, among the user's unseen items by head
    :math:`x`. The first :math:`K` items by this score keep it, all others score 0.

    A user is represented by the ids and scores of its consensus list, an item by its id. Blocks
    of scores are looked up in these, so no user-item matrix is ever stored.

    Args:
        model: The model, which is shared and not copied.
        heads: Where to find its heads in its representations.
        num_listed: Length :math:`K` of the heads' lists and of the consensus list.
        temperature: :math:`T`, in ranks.

    Raises:
        ValueError: If an option is not positive, or there are more than ``2**24`` items.
    """

    inner_product: ClassVar[bool] = False
    latent: ClassVar[bool] = False
    structure: ClassVar[tuple[str, ...]] = ("heads", "num_listed", "temperature")

    def __init__(
        self,
        model: Recommender,
        heads: Sequence[Head],
        *,
        num_listed: int = 100,
        temperature: float = 10.0,
    ) -> None:
        super().__init__(model)
        require_count(num_listed=num_listed)
        require_positive(temperature=temperature)
        if model.num_items > MAX_ITEMS:
            raise ValueError(f"'model' must have at most {MAX_ITEMS} items (got {model.num_items})")
        self.heads, self.num_listed, self.temperature = tuple(heads), num_listed, temperature

    @torch.no_grad()
    def forward(self, data: HeteroData) -> XDict:
        """Ids and scores of each user's list, ``[U, 2 K]``, and the item ids, ``[I, 1]``."""
        x_dict, seen = self.model(data), interactions(data).by_user()
        lists = [
            top_unseen(*head.vectors(x_dict[USER], x_dict[ITEM]), *seen, self.num_listed)
            for head in self.heads
        ]
        items, scores = consensus(
            torch.stack(lists).unsqueeze(0),
            self.num_listed,
            temperature=self.temperature,
            deviation=None,
        )
        number = torch.arange(self.num_items, device=items.device, dtype=scores.dtype)
        return {USER: torch.cat([items.to(scores.dtype), scores], 1), ITEM: number.unsqueeze(1)}

    def score(self, x_dict: XDict, edge_index: Tensor) -> Tensor:
        """Scores of user-item pairs, ``[E]``."""
        items, scores = x_dict[USER][edge_index[0]].chunk(2, dim=1)
        same = items == x_dict[ITEM][edge_index[1]]
        return torch.where(same, scores, 0.0).sum(1)

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        """Scores of every pair, ``[b, t]``."""
        items, scores = x_user.chunk(2, dim=1)
        number, order = x_item.squeeze(1).sort()
        at = torch.searchsorted(number, items.contiguous()).clamp_(max=len(number) - 1)
        known = number[at] == items
        # Ids outside the block, including padding, add zero somewhere.
        out = scores.new_zeros(len(x_user), len(x_item))
        return out.scatter_add_(1, order[at], torch.where(known, scores, 0.0))

    def __repr__(self) -> str:
        return (
            f"Consensus({self.model}, num_listed={self.num_listed}, temperature={self.temperature})"
        )
