"""RRD: the student puts the teacher's favourites first, in the teacher's order."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_positive
from pyg_kd.distill.base import Distillation
from pyg_kd.functional.edge_scores import list_scores
from pyg_kd.functional.list_likelihood import list_likelihood_loss
from pyg_kd.functional.ranked_lists import ListOptions, RankedLists
from pyg_kd.functional.sparse import gather_rows
from pyg_kd.typing import ITEM, USER, Batch, XDict


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
        num_ranked: Length of the teacher's list that is used, all of it at most; by default
            500, or half of the items where that is less.
        scale: Factor of the student's scores :math:`s_{ui}`: the inverse of the
            temperature of its base loss, where that has one.

    Raises:
        ValueError: If an option is unknown or out of range, or the graph
            carries fewer than ``num_interesting`` items a user, or nothing is left below them.

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
        num_ranked: int | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.options = ListOptions(
            num_interesting, num_uninteresting, position, temperature, num_ranked
        )
        require_positive(scale=scale)
        self.num_interesting, self.num_uninteresting = num_interesting, num_uninteresting
        self.scale = scale
        self.lists: Tensor
        self.register_buffer("lists", None, persistent=False)

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Note which items are neither seen nor ranked, and draw the first lists."""
        self.rankings = RankedLists(graph, USER, self.options)
        self.on_epoch_start(0, 1)

    def on_epoch_start(self, epoch: int, max_epochs: int, x_dict: XDict | None = None) -> None:
        """Draw the lists of all users anew: ``[U, K + L]``, padded with -1."""
        self.lists = self.rankings.draw()

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """The list loss of the unique users of the batch."""
        self.ensure_bound(x_dict, graph)
        x_user, x_item = gather_rows(x_dict[USER], batch.users), x_dict[ITEM]
        scores = list_scores(x_user * self.scale, x_item, self.lists[batch.users])
        listed = [self.num_interesting, self.num_uninteresting]
        return list_likelihood_loss(*scores.split(listed, dim=1))

    def __repr__(self) -> str:
        return f"RelaxedRankingDistillation({self.options}, scale={self.scale})"
