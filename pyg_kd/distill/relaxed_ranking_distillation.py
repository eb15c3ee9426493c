"""RRD: the student puts the teacher's favourites first, in the teacher's order."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.distill.base import Distillation
from pyg_kd.functional.bipartite import interactions, sorted_neighbors
from pyg_kd.functional.edge_scores import list_scores
from pyg_kd.functional.gather import gather_rows
from pyg_kd.functional.list_likelihood import list_likelihood_loss
from pyg_kd.functional.sampling import UnseenItems
from pyg_kd.typing import ITEM, USER, Batch, XDict

POSITIONS = ("top", "exponential")


class RelaxedRankingDistillation(Distillation):
    r"""Relaxed Ranking Distillation (RRD) of `"DE-RRD: A Knowledge Distillation Framework for
    Recommender System" <https://arxiv.org/abs/2012.04357>`_.

    .. math::
        L = - \sum_{u} \sum_{k=1}^{K} \log \frac{\exp(s_{u, \pi_k})}
        {\sum_{j \geq k} \exp(s_{u, \pi_j}) + \sum_{l=1}^{L} \exp(s_{ul})}

    over the unique users of a batch, with :math:`\pi` *interesting* items in
    the teacher's order and :math:`L` *uninteresting* ones, uniform among the
    items that are neither the user's own nor in the teacher's list. Both are
    drawn anew every epoch.

    Args:
        num_interesting: Length :math:`K` of the ranked list.
        num_uninteresting: Number :math:`L` of items below it.
        position: ``"top"`` (default) takes the teacher's first :math:`K`;
            ``"exponential"`` draws :math:`K` ranks :math:`r` without
            replacement with :math:`p(r) \propto e^{-r / T}` and sorts them.
        temperature: :math:`T` of the exponential scheme, in ranks.
        num_ranked: Length of the teacher's list that is used, all of it at most.
        scale: Factor of the student's scores :math:`s_{ui}`: the inverse of the
            temperature of its base loss, where that has one.

    Raises:
        ValueError: If an option is unknown or out of range, or the graph
            carries fewer than ``num_interesting`` items a user.

    Example:
        >>> RelaxedRankingDistillation(num_interesting=10).num_uninteresting
        40
    """

    needs = ("teacher_items",)

    def __init__(
        self,
        *,
        num_interesting: int = 40,
        num_uninteresting: int = 40,
        position: str = "top",
        temperature: float = 10.0,
        num_ranked: int = 500,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if position not in POSITIONS:
            raise ValueError(f"'position' must be one of {POSITIONS} (got {position!r})")
        values = {"num_interesting": num_interesting, "num_uninteresting": num_uninteresting}
        for name, value in (values | {"temperature": temperature, "scale": scale}).items():
            if value <= 0:
                raise ValueError(f"{name!r} must be positive (got {value})")
        if num_ranked < num_interesting:
            raise ValueError(f"'num_ranked' must be {num_interesting} or more (got {num_ranked})")
        self.num_interesting, self.num_uninteresting = num_interesting, num_uninteresting
        self.position, self.temperature, self.num_ranked = position, temperature, num_ranked
        self.scale = scale
        self.ranked: Tensor
        self.lists: Tensor
        self.register_buffer("ranked", None, persistent=False)
        self.register_buffer("lists", None, persistent=False)

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Note which items are neither seen nor ranked, and draw the first lists."""
        ranked = graph[USER].teacher_items[:, : self.num_ranked]
        if ranked.size(1) < self.num_interesting:
            raise ValueError(
                f"'num_interesting' is {self.num_interesting}, but the graph ranks "
                f"{ranked.size(1)} items a user: call extract_knowledge with num_items >= "
                f"{self.num_interesting}"
            )
        (user, item), num_users, num_items = interactions(graph)
        owner, place = (ranked >= 0).nonzero(as_tuple=True)
        user, item = torch.cat([user, owner]), torch.cat([item, ranked[owner, place].long()])
        self.unlisted = UnseenItems(sorted_neighbors(user, item, num_users, num_items), num_items)
        self.ranked = ranked
        self.on_epoch_start(0, 1)

    def on_epoch_start(self, epoch: int, max_epochs: int, x_dict: XDict | None = None) -> None:
        """Draw the lists of all users anew: ``[U, K + L]``, padded with -1."""
        users = torch.arange(self.ranked.size(0), device=self.ranked.device)
        below = self.unlisted.sample(users, self.num_uninteresting, replace=False)
        # A user the teacher has not ranked has no list, and so no tail either.
        below = below.masked_fill(self.ranked[:, :1] < 0, -1)
        self.lists = torch.cat([self._interesting(), below.to(self.ranked.dtype)], dim=1)

    def _interesting(self) -> Tensor:
        if self.position == "top":
            return self.ranked[:, : self.num_interesting]
        rank = torch.arange(self.ranked.size(1), device=self.ranked.device)
        # The largest of log-weights with Gumbel noise are a draw without replacement.
        noise = torch.empty(self.ranked.shape, device=self.ranked.device).exponential_().log()
        key = (-rank / self.temperature - noise).masked_fill(self.ranked < 0, -torch.inf)
        place = key.topk(self.num_interesting, dim=1, sorted=False).indices.sort(dim=1).values
        return self.ranked.gather(1, place)

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """The list loss of the unique users of the batch."""
        self.ensure_bound(x_dict, graph)
        x_user, x_item = gather_rows(x_dict[USER], batch.users), x_dict[ITEM]
        scores = list_scores(x_user * self.scale, x_item, self.lists[batch.users])
        return list_likelihood_loss(
            scores[:, : self.num_interesting], scores[:, self.num_interesting :]
        )

    def __repr__(self) -> str:
        return (
            f"RelaxedRankingDistillation({self.num_interesting}, {self.num_uninteresting}, "
            f"position={self.position!r}, temperature={self.temperature}, "
            f"num_ranked={self.num_ranked}, scale={self.scale})"
        )
