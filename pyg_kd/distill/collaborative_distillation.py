"""CD: the teacher's soft labels of unseen items, mostly of those at the top of a ranking."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice, require_count, require_positive
from pyg_kd.distill.base import Distillation
from pyg_kd.functional.edge_scores import list_scores
from pyg_kd.functional.sparse import gather_rows
from pyg_kd.graph import Neighbors, interactions
from pyg_kd.typing import ITEM, USER, Batch, XDict

GUIDES = ("student", "teacher")


class CollaborativeDistillation(Distillation):
    r"""Collaborative Distillation (CD) of `"Collaborative Distillation for Top-N Recommendation"
    <https://arxiv.org/abs/1911.05276>`_.

    .. math::
        L = - \sum_{u} \sum_{i \in S_u} q_{ui} \log \sigma(s_{ui})
        + (1 - q_{ui}) \log (1 - \sigma(s_{ui})), \qquad
        q_{ui} = \sigma\!\left(\frac{\langle t_u, t_i \rangle + t_2}{t_1}\right)

    over the unique users of a batch. :math:`S_u` are distinct unseen items of the user, drawn one
    after another anew every epoch with

    .. math::
        p_{ui} \propto \exp(-\gamma \, \mathrm{rank}_u(i) / |I|)

    The guide ranks a user's unseen items from 0: the student as it is when the epoch starts, or
    the teacher; both score by inner products. The law is exact where the catalogue has no more
    than ``num_candidates`` items. Otherwise it holds for ranks estimated among that many, drawn
    anew every time (``RankSampler``, below). What is drawn at
    binding, before a student is known, follows the teacher.

    The paper's values of :math:`\gamma` and :math:`|S_u|` could not be checked; the defaults are
    this package's, those of the soft labels a later reimplementation's.

    Args:
        num_sampled: Number of items in :math:`S_u`.
        guide: ``"student"`` (default) or ``"teacher"``.
        rank_decay: :math:`\gamma`: the best share :math:`1 / \gamma` of the catalogue is likely.
        target: :math:`(t_1, t_2)` of the soft labels, :math:`t_1` positive.
        num_candidates: Number of items that are ranked for a user.
        scale: Factor of the student's scores :math:`s_{ui}`: the inverse of the temperature of
            its base loss, where that has one.

    Raises:
        ValueError: If an option is unknown or out of range.

    Example:
        >>> CollaborativeDistillation(guide="teacher").num_sampled
        50
    """

    needs = ("teacher_x",)
    ranks = True
    teacher_scores = True

    def __init__(
        self,
        *,
        num_sampled: int = 50,
        guide: str = "student",
        rank_decay: float = 10.0,
        target: tuple[float, float] = (2.0, 0.0),
        num_candidates: int = 1000,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        require_choice(GUIDES, guide=guide)
        require_count(num_sampled=num_sampled)
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

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """The cross-entropy of the soft labels of the unique users of the batch."""
        self.ensure_bound(x_dict, graph)
        items, (t_1, t_2) = self.sampled[batch.users], self.target
        x_user = gather_rows(x_dict[USER], batch.users) * self.scale
        scores = list_scores(x_user, x_dict[ITEM], items)
        taught = list_scores(graph[USER].teacher_x[batch.users], graph[ITEM].teacher_x, items)
        label = ((taught + t_2) / t_1).sigmoid().to(scores.dtype)
        listed = items >= 0
        loss: Tensor = binary_cross_entropy_with_logits(
            torch.where(listed, scores, 0.0), label, listed.to(scores.dtype), reduction="sum"
        )
        return loss


#: Scores of candidates that are sorted at once.
BLOCK_ENTRIES = 2**18


class RankSampler(torch.nn.Module):
    r"""Distinct unseen items of every user, the better ranked the more likely.

    They are drawn one after another, each among those that are left, with

    .. math::
        p_{ui} \propto \exp(-\mathit{decay} \cdot \mathrm{rank}_u(i) / |I|)

    and ranks from 0 by the inner products of users and items. With ``num_candidates`` items or
    fewer in the catalogue the law is exact. With more it holds for estimated ranks: that many
    candidates are drawn, each item with the same probability, and an item with :math:`j` better
    ones among the :math:`c_u` candidates that are unseen has the rank :math:`j n_u / c_u`, where
    :math:`n_u` items are unseen in all. Candidates are shared by a block of users and spread over
    the ids. Nothing has users times items entries.

    Args:
        seen: The items a user gets none of.
        num_items: Size of the catalogue :math:`|I|`.
        num_candidates: Items that are ranked for a user.
    """

    row: Tensor
    item: Tensor
    num_left: Tensor

    def __init__(self, seen: Neighbors, num_items: int, num_candidates: int) -> None:
        super().__init__()
        self.num_items, self.width = num_items, min(num_candidates, num_items)
        num_users, rows = seen.ptr.numel() - 1, max(BLOCK_ENTRIES // self.width, 1)
        self.starts = [*range(0, num_users, rows), num_users]
        # Where a block's edges lie is known from here on: no draw waits for the device.
        self.bounds = seen.ptr[self.starts].tolist()
        row = seen.row % rows
        self.register_buffer("row", row, persistent=False)
        self.register_buffer("item", seen.col, persistent=False)
        self.register_buffer("num_left", num_items - seen.degree, persistent=False)

    @torch.no_grad()
    def draw(self, x_dict: XDict | None, num: int, *, decay: float) -> Tensor:
        r"""Draw for all users.

        Args:
            x_dict: Who ranks: ``[U, d]`` and ``[I, d]``. ``None``: all are equally likely.
            num: Number of items.
            decay: Steepness; the best share ``1 / decay`` of the catalogue is likely.

        Returns:
            Item ids, int32 ``[U, min(num, num_candidates, I)]``, padded with -1.
        """
        num, place = min(num, self.width), torch.arange(self.width, device=self.row.device)
        decay = 0.0 if x_dict is None else decay / self.num_items
        drawn = []
        for block, edges in zip(pairwise(self.starts), pairwise(self.bounds), strict=True):
            rows, candidates = slice(*block), self._candidates()
            scores = self._scores(rows, slice(*edges), candidates, x_dict)
            left = self.num_left[rows].unsqueeze(1)
            count = (scores != -torch.inf).sum(1, keepdim=True)
            rank = place * (left / count.clamp(min=1))
            # The largest of log-weights with Gumbel noise are a draw without replacement.
            noise = torch.empty_like(scores, dtype=torch.float32).exponential_().log()
            key = (-decay * rank - noise).masked_fill_(place >= count, -torch.inf)
            best = key.topk(num, dim=1, sorted=False)
            order = scores.sort(dim=1, descending=True).indices
            items = candidates[order.gather(1, best.indices)]
            drawn.append(items.masked_fill(best.values == -torch.inf, -1).to(torch.int32))
        return torch.cat(drawn)

    def _candidates(self) -> Tensor:
        """One item from each of ``width`` ranges of ids, turned so that all are as likely."""
        device = self.row.device
        edge = torch.arange(self.width + 1, device=device) * self.num_items // self.width
        draw = torch.rand(self.width + 1, dtype=torch.double, device=device)
        inside = (draw[1:] * edge.diff()).long()
        return (edge[:-1] + inside + (draw[:1] * self.num_items).long()) % self.num_items

    def _scores(
        self, rows: slice, edges: slice, candidates: Tensor, x_dict: XDict | None
    ) -> Tensor:
        """Scores of a block of users with the candidates, ``-inf`` for what is seen."""
        shape = (rows.stop - rows.start, self.width)
        if x_dict is None:
            scores = torch.zeros(shape, device=candidates.device)
        else:
            scores = x_dict[USER][rows] @ x_dict[ITEM][candidates].t()
        place = torch.full((self.num_items,), self.width, device=candidates.device)
        place.scatter_(0, candidates, torch.arange(self.width, device=candidates.device))
        # What is no candidate goes to an entry of its own, so that shapes depend on no value.
        place, end = place.index_select(0, self.item[edges]), scores.numel()
        where = torch.where(place < self.width, self.row[edges] * self.width + place, end)
        hidden = torch.zeros(end + 1, dtype=torch.bool, device=candidates.device)
        return scores.masked_fill_(hidden.index_fill_(0, where, True)[:-1].view(shape), -torch.inf)
