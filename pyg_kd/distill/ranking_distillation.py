"""RD: the teacher's top items as positives, weighted by how far the student misplaces them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count, require_positive
from pyg_kd.distill.base import Distillation
from pyg_kd.functional.edge_scores import list_scores
from pyg_kd.functional.sampling import UnseenItems
from pyg_kd.functional.sparse import gather_rows
from pyg_kd.graph import interactions
from pyg_kd.knowledge.confidence import trusted_lists
from pyg_kd.knowledge.requirements import check_width
from pyg_kd.typing import ITEM, USER, Batch, XDict


class RankingDistillation(Distillation):
    r"""Ranking Distillation (RD) of `"Ranking Distillation: Learning Compact Ranking Models With
    High Performance for Recommender System" <https://arxiv.org/abs/1809.07428>`_.

    .. math::
        L = - \sum_{u} \sum_{r=0}^{K-1} c_{ur} w_{ur} \log \sigma(s_{u, \pi_r}), \qquad
        w_{ur} = \frac{w^a_r w^b_{ur}}{\sum_{q} w^a_q w^b_{uq}}

    over the unique users of a batch, with :math:`\pi` the teacher's top :math:`K` unseen items,
    the position weight :math:`w^a_r \propto e^{-r / \lambda}` (summing to 1) and the discrepancy
    weight :math:`w^b_{ur} = \tanh(\max(\mu (\hat r_{ur} - r), 0))`, which ignores items that the
    student already ranks high enough. The student's rank is estimated from uniform samples of the
    user's unseen items, redrawn with replacement every epoch: with :math:`n_u` unseen items and
    :math:`N` samples, :math:`\hat r_{ur} = \lfloor n_u \cdot \#\{\text{samples scored above}\} / N
    \rfloor`. In the first ``warm_up`` epochs :math:`w = w^a`. Weights get no gradient.
    :math:`c_{ur}` is the teacher's confidence in the place, 1 unless the graph carries
    ``teacher_confidence``; it is not part of the sums that normalise :math:`w`.

    The paper weights the base loss by :math:`1 - \alpha` and this one by :math:`\alpha`; here the
    total is :math:`L_{base} + \mathit{weight} \cdot L`, so the equivalent weight is
    :math:`\alpha / (1 - \alpha)`. The authors' code uses weight 1, takes :math:`n_u` as the size of
    the catalogue (minus 1 in its latest version), and does not divide by the sum of the products
    (``normalize=False``).

    Args:
        num_listed: Length :math:`K` of the teacher's list.
        position_decay: :math:`\lambda`, in ranks.
        discrepancy_sharpness: :math:`\mu`.
        num_samples: Number :math:`N` of samples per user.
        warm_up: Number of epochs without :math:`w^b`.
        normalize: ``False`` uses :math:`w^a w^b` as it is, with :math:`\sum_r w^a_r = 1`: users
            that the student already ranks well fade out.
        scale: Factor on the student's scores :math:`s_{ui}`: the inverse temperature of its base
            loss, if that has one.

    Raises:
        ValueError: If an option is out of range, or the graph carries fewer than ``num_listed``
            items per user.

    Example:
        >>> RankingDistillation(num_listed=20).warm_up
        10
    """

    needs = ("teacher_items",)
    row_wise: tuple[str, ...] = (USER, ITEM)

    def __init__(
        self,
        *,
        num_listed: int = 10,
        position_decay: float = 1.0,
        discrepancy_sharpness: float = 0.1,
        num_samples: int = 100,
        warm_up: int = 10,
        normalize: bool = True,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        require_count(num_listed=num_listed, num_samples=num_samples)
        require_count(0, warm_up=warm_up)
        require_positive(position_decay=position_decay, scale=scale)
        require_positive(discrepancy_sharpness=discrepancy_sharpness)
        self.num_listed, self.num_samples, self.warm_up = num_listed, num_samples, warm_up
        self.position_decay, self.discrepancy_sharpness = position_decay, discrepancy_sharpness
        self.normalize, self.scale = normalize, scale
        self.hybrid = warm_up == 0
        self.lists: Tensor
        self.confidence: Tensor | None
        for name in ("lists", "confidence"):
            self.register_buffer(name, None, persistent=False)

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Take the teacher's top items."""
        check_width(graph, type(self).__name__, "teacher_items", self.num_listed, "num_listed")
        edges = interactions(graph)
        self.unseen = UnseenItems(edges.by_user(), edges.num_items)
        self.lists, self.confidence = trusted_lists(graph, self.num_listed)

    def on_epoch_start(self, epoch: int, max_epochs: int, x_dict: XDict | None = None) -> None:
        """End the warm-up when it is over, and redraw the samples."""
        self.hybrid = epoch >= self.warm_up
        super().on_epoch_start(epoch, max_epochs, x_dict)

    def draw(self) -> None:
        """Redraw the samples of all users."""
        left = self.unseen.num_left.unsqueeze(1)
        shape, device = (len(left), self.num_samples), left.device
        place = (torch.rand(shape, dtype=torch.double, device=device) * left).long()
        drawn = self.unseen.at(torch.arange(len(left), device=device).unsqueeze(1), place)
        drawn = torch.where(left > 0, drawn, -1).to(self.lists.dtype)
        self.lists = torch.cat([self.lists[:, : self.num_listed], drawn], dim=1)

    def rows_read(self, graph: HeteroData, batch: Batch) -> dict[str, Tensor | None]:
        """The unique users of the batch, their listed items and, after the warm-up, the drawn."""
        used = self.lists if self.hybrid else self.lists[:, : self.num_listed]
        return {USER: batch.unique_users, ITEM: used[batch.unique_users]}

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """Compute the weighted negative log-likelihood of the listed items of the unique users."""
        self.ensure_bound(x_dict, graph)
        users = batch.unique_users
        x_user = gather_rows(x_dict[USER], users) * self.scale
        lists = self.lists[users]
        listed = lists[:, : self.num_listed]
        scores = list_scores(x_user, x_dict[ITEM], listed)
        rank = torch.arange(self.num_listed, device=scores.device, dtype=scores.dtype)
        weight = _shares((-rank / self.position_decay).exp() * (listed >= 0))
        if self.hybrid:
            with torch.no_grad():
                # In one call: an item that is both listed and drawn isn't above itself by rounding.
                both = list_scores(x_user, x_dict[ITEM], lists)
            own, sampled = both.tensor_split([self.num_listed], dim=1)
            student = self._rank(own.contiguous(), sampled, self.unseen.num_left[users])
            weight = weight * (self.discrepancy_sharpness * (student - rank)).tanh().clamp(min=0)
            if self.normalize:
                weight = _shares(weight)
        if self.confidence is not None:
            weight = weight * self.confidence[users].to(weight.dtype)
        return -(weight * logsigmoid(torch.where(listed < 0, 0.0, scores))).sum()

    def _rank(self, scores: Tensor, sampled: Tensor, num_unseen: Tensor) -> Tensor:
        """Estimate the student's ranks ``[B, K]`` from the share of samples scored above."""
        ascending = sampled.sort(dim=1).values
        not_above = torch.searchsorted(ascending, scores, right=True)
        # In integers: a floating point share would occasionally round across the floor.
        rank = (self.num_samples - not_above) * num_unseen.unsqueeze(1) // self.num_samples
        return rank.to(scores.dtype)


def _shares(weight: Tensor) -> Tensor:
    """Rows divided by their sums; a row of zeros stays zero."""
    tiny = torch.finfo(weight.dtype).tiny
    share: Tensor = weight / weight.sum(1, keepdim=True).clamp(min=tiny)
    return share
