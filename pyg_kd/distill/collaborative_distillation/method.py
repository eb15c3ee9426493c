"""CD: the teacher's soft labels of unseen items, mostly of those at the top of a ranking."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice, require_count, require_positive
from pyg_kd.distill.base import Distillation
from pyg_kd.distill.collaborative_distillation.rank_sampler import RankSampler
from pyg_kd.functional.edge_scores import list_scores
from pyg_kd.functional.sparse import gather_rows
from pyg_kd.graph import interactions
from pyg_kd.typing import ITEM, USER, Batch, XDict

Guide = Literal["student", "teacher"]
GUIDES: tuple[Guide, ...] = get_args(Guide)


class CollaborativeDistillation(Distillation):
    r"""Collaborative Distillation (CD) of `"Collaborative Distillation for Top-N Recommendation"
    <https://arxiv.org/abs/1911.05276>`_.

    .. math::
        L = - \sum_{u} \sum_{i \in S_u} q_{ui} \log \sigma(s_{ui})
        + (1 - q_{ui}) \log (1 - \sigma(s_{ui})), \qquad
        q_{ui} = \sigma\!\left(\frac{\langle t_u, t_i \rangle + t_2}{t_1}\right)

    over the unique users of a batch. :math:`S_u` are distinct unseen items of the user, drawn one
    after another, anew every epoch, with

    .. math::
        p_{ui} \propto \exp(-\gamma \, \mathrm{rank}_u(i) / |I|)

    The guide ranks a user's unseen items from 0: the student as it is when the epoch starts, or
    the teacher; both score by inner products. The items drawn at binding, before a student is
    known, follow the teacher. Drawing scores every item for every user; ``num_candidates`` bounds
    that for a large catalogue.

    The paper's values of :math:`\gamma` and :math:`|S_u|` could not be checked: their defaults are
    this package's, and those of the soft labels come from a later reimplementation.

    Args:
        num_sampled: Number of items in :math:`S_u`.
        guide: ``"student"`` (default) or ``"teacher"``.
        rank_decay: :math:`\gamma`: the best share :math:`1 / \gamma` of the catalogue is likely.
        target: :math:`(t_1, t_2)` of the soft labels, :math:`t_1` positive.
        num_candidates: Number of items that are scored for a user. All (the default) make the law
            exact. Fewer are drawn anew every epoch, and the items at the ranks are estimated
            among them: take several times :math:`\gamma |S_u|`.
        scale: Factor of the student's scores :math:`s_{ui}`: the inverse of the temperature of
            its base loss, where that has one.

    Raises:
        ValueError: If an option is unknown or out of range.

    Example:
        >>> CollaborativeDistillation(guide="teacher").num_sampled
        50
    """

    needs = ("teacher_x",)
    row_wise: tuple[str, ...] = (USER, ITEM)
    ranks = True
    teacher_scores = True

    def __init__(
        self,
        *,
        num_sampled: int = 50,
        guide: Guide = "student",
        rank_decay: float = 10.0,
        target: tuple[float, float] = (2.0, 0.0),
        num_candidates: int | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        require_choice(GUIDES, guide=guide)
        require_count(num_sampled=num_sampled)
        if num_candidates is not None:
            require_count(num_sampled, num_candidates=num_candidates)
        require_positive(rank_decay=rank_decay, scale=scale)
        if not isinstance(target, Sequence) or len(target) != 2:
            raise ValueError(f"'target' must be two numbers (got {target!r})")
        require_positive(**{"target[0]": target[0]})
        if not isfinite(target[1]):
            raise ValueError(f"'target[1]' must be finite (got {target[1]})")
        self.num_sampled, self.guide, self.rank_decay = num_sampled, guide, rank_decay
        self.target, self.num_candidates, self.scale = target, num_candidates, scale
        self.sampled: Tensor
        for name in ("sampled", "teacher_user", "teacher_item"):
            self.register_buffer(name, None, persistent=False)

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Note what is seen; until a student guides, the teacher does."""
        edges = interactions(graph)
        self.sampler = RankSampler(edges.by_user(), edges.num_items, self.num_candidates)
        teacher = {node_type: graph[node_type].teacher_x for node_type in (USER, ITEM)}
        if self.guide == "teacher":
            self.teacher_user, self.teacher_item = teacher[USER], teacher[ITEM]
        else:
            self._draw(teacher)

    def on_epoch_start(self, epoch: int, max_epochs: int, x_dict: XDict | None = None) -> None:
        """Draw the items of all users anew, as the student or the teacher ranks them."""
        if self.guide == "teacher":
            super().on_epoch_start(epoch, max_epochs, x_dict)
        else:
            self._draw(self.require_student(x_dict))

    def draw(self) -> None:
        """Draw the items of all users anew where the teacher guides."""
        if self.guide == "teacher":
            self._draw({USER: self.teacher_user, ITEM: self.teacher_item})

    def _draw(self, x_dict: XDict) -> None:
        self.sampled = self.sampler.draw(x_dict, self.num_sampled, decay=self.rank_decay)

    def rows_read(self, graph: HeteroData, batch: Batch) -> dict[str, Tensor | None]:
        """The unique users of the batch, and the items drawn for them."""
        return {USER: batch.unique_users, ITEM: self.sampled[batch.unique_users]}

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """The cross-entropy of the soft labels of the unique users of the batch."""
        self.ensure_bound(x_dict, graph)
        items, (t_1, t_2) = self.sampled[batch.unique_users], self.target
        x_user = gather_rows(x_dict[USER], batch.unique_users) * self.scale
        scores = list_scores(x_user, x_dict[ITEM], items)
        taught = list_scores(
            graph[USER].teacher_x[batch.unique_users], graph[ITEM].teacher_x, items
        )
        label = ((taught + t_2) / t_1).sigmoid().to(scores.dtype)
        listed = items >= 0
        loss: Tensor = binary_cross_entropy_with_logits(
            torch.where(listed, scores, 0.0), label, listed.to(scores.dtype), reduction="sum"
        )
        return loss
