"""PCKD: DE whose projectors preserve the order in which the student ranks items."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_at_least, require_choice, require_count, require_positive
from pyg_kd.distill.base import Distillation
from pyg_kd.distill.distillation_experts import DistillationExperts
from pyg_kd.functional.losses import padded_softmax, soft_cross_entropy
from pyg_kd.functional.row_tables import read_lists
from pyg_kd.functional.sampling import draw_places
from pyg_kd.functional.sparse import gather_rows
from pyg_kd.knowledge.confidence import trusted_lists
from pyg_kd.knowledge.requirements import check_width
from pyg_kd.typing import ITEM, USER, Batch, XDict

Regularizer = Literal["list", "pair"]
REGULARIZERS: tuple[Regularizer, ...] = get_args(Regularizer)


class PreferenceConsistentDistillation(Distillation):
    r"""Preference-consistent distillation (PCKD) of `"Preference-Consistent Knowledge
    Distillation for Recommender System" <https://arxiv.org/abs/2311.04549>`_.

    .. math::
        L = L_{DE} + \alpha \sum_{u} R_u, \qquad
        R_u^{list} = - \sum_{i} c_{ui} \sigma_i(y_u / T) \log \sigma_i(z_u / T), \qquad
        R_u^{pair} = - \min(c_{ui}, c_{uj})
        \log \mathrm{sigmoid}\big((z_{ui} - z_{uj}) (y_{ui} - y_{uj})\big)

    over the unique users of a batch. :math:`y_{ui} = \langle s_u, s_i \rangle` are the student's
    scores before the projectors :math:`f`, the expert mixtures of :class:`DistillationExperts`,
    and :math:`z_{ui} = \langle f(s_u), f(s_i) \rangle` those after them, both with :math:`s`
    detached: only :math:`f` is regularised. :math:`\sigma` is the softmax over the items
    :math:`i` of a user, which are drawn from the top of the teacher's list without replacement,
    with :math:`p(r) \propto e^{-r / T_r}`, and redrawn every epoch. :math:`c_{ui}` is the
    teacher's confidence in the item's place, 1 unless the graph carries ``teacher_confidence``.

    The formulas are those of the authors' public code. The paper also describes a hybrid of the
    two regularisers, which neither that code nor this class implements. Unlike this class, that
    code counts a user as often as it occurs in a batch, its lists include the user's own items, and
    its :math:`L_{DE}` is the ``"reference"`` variant of :class:`DistillationExperts`.

    Args:
        regularizer: ``"list"`` (default), or ``"pair"``, which draws two items per user.
        alpha: Weight :math:`\alpha`.
        num_items: Number of items drawn per user with ``"list"``; ``"pair"`` always draws two.
        softmax_temperature: :math:`T`.
        num_ranked: Maximum number of entries of the teacher's list to draw from.
        rank_temperature: :math:`T_r`, in ranks.
        num_experts, temperature: As in :class:`DistillationExperts`.

    Raises:
        ValueError: If an option is unknown or out of range, or the graph ranks fewer items per
            user than are drawn.

    Example:
        >>> PreferenceConsistentDistillation(regularizer="pair").num_items
        2
    """

    needs = ("teacher_x", "teacher_items")
    row_wise: tuple[str, ...] = (USER, ITEM)
    tunes = ("softmax_temperature",)

    def __init__(
        self,
        *,
        regularizer: Regularizer = "list",
        alpha: float = 0.1,
        num_items: int = 5,
        softmax_temperature: float = 0.1,
        num_ranked: int = 100,
        rank_temperature: float = 10.0,
        num_experts: int = 30,
        temperature: float | tuple[float, float] = (1.0, 1e-10),
    ) -> None:
        super().__init__()
        require_choice(REGULARIZERS, regularizer=regularizer)
        require_at_least(0, alpha=alpha)
        require_count(2, num_items=num_items)  # a single item has no order
        require_positive(softmax_temperature=softmax_temperature)
        require_positive(rank_temperature=rank_temperature)
        self.regularizer, self.alpha = regularizer, alpha
        self.num_items = num_items if regularizer == "list" else 2
        require_count(self.num_items, num_ranked=num_ranked)
        self.softmax_temperature, self.num_ranked = softmax_temperature, num_ranked
        self.rank_temperature = rank_temperature
        self.experts = DistillationExperts(num_experts=num_experts, temperature=temperature)
        self.num_experts, self.temperature = num_experts, self.experts.temperature
        self.ranked: Tensor
        self.places: Tensor
        self.confidence: Tensor | None
        for name in ("ranked", "places", "confidence"):
            self.register_buffer(name, None, persistent=False)

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Create the projectors."""
        check_width(graph, type(self).__name__, "teacher_items", self.num_items, "num_items")
        self.experts.bind(graph, dim)
        self.ranked, self.confidence = trusted_lists(graph, self.num_ranked)

    def on_epoch_start(self, epoch: int, max_epochs: int, x_dict: XDict | None = None) -> None:
        """Anneal the routing, and redraw the items."""
        self.experts.on_epoch_start(epoch, max_epochs, x_dict)
        super().on_epoch_start(epoch, max_epochs, x_dict)

    def draw(self) -> None:
        """Redraw places in the teacher's lists, int64 ``[U, num_items]``."""
        self.places = draw_places(self.ranked < 0, self.num_items, self.rank_temperature)

    def rows_read(self, graph: HeteroData, batch: Batch) -> dict[str, Tensor | None]:
        """The entities that are reconstructed, and the items that are drawn."""
        users, read = batch.unique_users, self.experts.rows_read(graph, batch)
        own = {USER: users, ITEM: self._drawn(users).flatten().long()}
        return {key: None if ids is None else torch.cat([ids, own[key]])
                for key, ids in read.items()}  # fmt: skip

    def _drawn(self, users: Tensor) -> Tensor:
        """The items drawn for users, ``[B, num_items]``, padded with -1."""
        return self.ranked[users].gather(1, self.places[users])

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """Compute the loss of DE plus the regulariser of the unique users of the batch."""
        self.ensure_bound(x_dict, graph)
        users = batch.unique_users
        items, weight = self._drawn(users), None
        if self.confidence is not None:
            weight = self.confidence[users].gather(1, self.places[users])
        with torch.no_grad():  # the student's rows are constant here, only projectors learn
            found, place = read_lists(x_dict[ITEM], items.flatten())
            x = {USER: gather_rows(x_dict[USER], users), ITEM: gather_rows(found, place.long())}
            before = self._scores(x[USER], x[ITEM], items)
        after = self._projected_scores(x, graph, batch, items)
        reconstruction: Tensor = self.experts(x_dict, graph, batch)
        return reconstruction + self.alpha * self._inconsistency(before, after, weight)

    def _projected_scores(
        self, x: dict[str, Tensor], graph: HeteroData, batch: Batch, items: Tensor
    ) -> Tensor:
        """Scores after the projectors; each listed item is routed independently."""
        index = {USER: batch.unique_users, ITEM: items.clamp(min=0).flatten()}
        num_users, projected = len(batch.whole.unique_users), []
        for node_type, rows in index.items():
            per_user = 1 if node_type == USER else self.num_items
            uniform = self.experts.uniform(node_type, num_users * per_user)
            uniform = batch.own(uniform.unflatten(0, (num_users, per_user))).flatten(0, 1)
            inputs = x[node_type], graph[node_type].teacher_x[rows]
            mixture = self.experts.mixture[node_type]
            projected.append(mixture(*inputs, self.experts.tau, uniform))
        user, item = projected
        return self._scores(user, item, items)

    @staticmethod
    def _scores(user: Tensor, item: Tensor, items: Tensor) -> Tensor:
        """Scores ``[B, K]`` of users with their own items, one below the other; -inf is padding."""
        scores = torch.bmm(item.view(*items.shape, item.size(1)), user.unsqueeze(2)).squeeze(2)
        return scores.masked_fill(items < 0, -torch.inf)

    def _inconsistency(self, before: Tensor, after: Tensor, weight: Tensor | None = None) -> Tensor:
        weight = None if weight is None else weight.to(before.dtype)
        if self.regularizer == "list":
            target = padded_softmax(before / self.softmax_temperature)
            if weight is not None:
                target = target * weight
            return soft_cross_entropy(after / self.softmax_temperature, target).sum()
        padding = (before == -torch.inf).any(1, keepdim=True)
        gaps = [scores.masked_fill(padding, 0.0).diff(dim=1) for scores in (before, after)]
        losses = -logsigmoid(gaps[0] * gaps[1]).masked_fill(padding, 0.0)
        if weight is not None:
            losses = losses * weight.amin(1, keepdim=True)
        return losses.sum()
