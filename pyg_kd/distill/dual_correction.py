"""DCD: items that the student ranks too low go above those it ranks too high, on both sides."""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice, require_count, require_positive
from pyg_kd.distill.base import Distillation
from pyg_kd.functional.edge_scores import list_scores
from pyg_kd.functional.list_likelihood import list_likelihood_loss
from pyg_kd.functional.sampling import distinct_ids, row_blocks
from pyg_kd.functional.sparse import gather_rows
from pyg_kd.knowledge.confidence import RANKING, trusted_lists
from pyg_kd.typing import ITEM, USER, Batch, XDict

Sides = Literal["both", "user", "item"]
SIDES: tuple[Sides, ...] = get_args(Sides)

#: The node type that each side ranks.
OTHER = {USER: ITEM, ITEM: USER}

#: Ranked entries that are scored, or drawn from, at once.
BLOCK_ENTRIES = 2**19


class DualCorrection(Distillation):
    r"""Dual Correction strategy for Distillation (DCD) of `"Dual Correction Strategy for Ranking
    Distillation in Top-N Recommender System" <https://arxiv.org/abs/2109.03459>`_.

    .. math::
        L = L_{user} + w L_{item}, \qquad
        L_{user} = - \sum_{u} \sum_{k} c_{uk} \log \frac{\exp(s_{u, \pi_k})}
        {\sum_{j \geq k} \exp(s_{u, \pi_j}) + \sum_{l} \exp(s_{u, \rho_l})}

    over the unique users of a batch. The *underestimated* items :math:`\pi`, in the teacher's
    order, and the *overestimated* items :math:`\rho` are drawn from the teacher's list of the
    user, without replacement, with

    .. math::
        p(\pi) \propto \tanh(\max(\epsilon (r^S - r^T), 0)), \qquad
        p(\rho) \propto \tanh(\max(\epsilon (r^T - r^S), 0))

    where :math:`r^T` and :math:`r^S` are the ranks of an item within that list by teacher and
    student, and :math:`c_{uk}` is the teacher's confidence in the place of :math:`\pi_k`, 1 unless
    the graph carries ``teacher_confidence``. :math:`L_{item}` is the same for the unique positive
    items of a batch and their lists of users, without confidence. If fewer entries are misjudged
    than requested, all of them are drawn; ties count against the student.

    The student's ranks are recomputed at the start of every ``refresh_every``-th epoch, beginning
    with epoch 0; until then it is assumed to reverse every list. Lists are redrawn every epoch (the
    authors' code redraws them for every batch, from the same distribution). The paper adds a
    ranking distillation loss, which neither the authors' code nor this class includes: for the
    paper's total, add a :class:`RelaxedRankingDistillation`. The default lengths and
    :math:`\epsilon` are ours, since the authors' could not be established.

    Args:
        num_underestimated: Length of the ranked list :math:`\pi`.
        num_overestimated: Number of items :math:`\rho` below it.
        epsilon: Steepness :math:`\epsilon` of the weights, per rank.
        refresh_every: Number of epochs after which the student's ranks are recomputed.
        num_ranked: Maximum number of entries used of each of the teacher's lists.
        scale: Factor on the student's scores.
        sides: ``"both"`` (default), ``"user"`` or ``"item"``; a single side needs only the
            teacher's lists for that side.
        item_weight: Weight :math:`w` of the item side.

    Raises:
        ValueError: If an option is unknown or out of range.

    Example:
        >>> DualCorrection(sides="user").needs
        ('teacher_items',)
    """

    needs: tuple[str, ...] = ("teacher_items", "teacher_users")
    row_wise: tuple[str, ...] = (USER, ITEM)

    def __init__(
        self,
        *,
        num_underestimated: int = 40,
        num_overestimated: int = 40,
        epsilon: float = 1e-2,
        refresh_every: int = 3,
        num_ranked: int = 500,
        scale: float = 1.0,
        sides: Sides = "both",
        item_weight: float = 1.0,
    ) -> None:
        super().__init__()
        require_choice(SIDES, sides=sides)
        self.num_underestimated, self.num_overestimated = num_underestimated, num_overestimated
        self.epsilon, self.refresh_every, self.num_ranked = epsilon, refresh_every, num_ranked
        self.scale, self.sides, self.item_weight = scale, sides, item_weight
        require_count(num_underestimated=num_underestimated, num_overestimated=num_overestimated)
        require_count(refresh_every=refresh_every, num_ranked=num_ranked)
        require_positive(epsilon=epsilon, scale=scale, item_weight=item_weight)
        self.needs = tuple(RANKING[side] for side in self._sides)
        self.corrections = nn.ModuleDict()

    @property
    def _sides(self) -> tuple[str, ...]:
        return (USER, ITEM) if self.sides == "both" else (self.sides,)

    def side(self, node_type: str) -> RankCorrections:
        """The student's ranks and the lists of one side."""
        return cast(RankCorrections, self.corrections[node_type])

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Take the teacher's rankings; the student has not ranked anything yet."""
        lengths = self.num_underestimated, self.num_overestimated
        for side in self._sides:
            ranked, confidence = trusted_lists(graph, self.num_ranked, side)
            self.corrections[side] = RankCorrections(ranked, *lengths, self.epsilon, confidence)

    def on_epoch_start(self, epoch: int, max_epochs: int, x_dict: XDict | None = None) -> None:
        """Recompute the student's ranks if they are due, and redraw the lists."""
        if epoch % self.refresh_every == 0:
            x_dict = self.require_student(x_dict)
            for side in self._sides:
                self.side(side).refresh(x_dict[side], x_dict[OTHER[side]])
        self.draw()

    def draw(self) -> None:
        """Redraw the lists of all sides."""
        for side in self._sides:
            self.side(side).draw()

    def rows_read(self, graph: HeteroData, batch: Batch) -> dict[str, Tensor | None]:
        """The rows whose lists are taken, and those that they list."""
        rows: dict[str, list[Tensor]] = {USER: [], ITEM: []}
        for side in self._sides:
            own = self._rows(side, graph[side].num_nodes, batch)
            rows[side].append(own)
            rows[OTHER[side]].append(self.side(side).lists[own])
        return {name: torch.cat([x.flatten().long() for x in xs]) for name, xs in rows.items()}

    def _rows(self, side: str, size: int, batch: Batch) -> Tensor:
        if side == USER:
            return batch.unique_users
        return batch.own(distinct_ids(batch.whole.positive, size))

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """Compute the list losses of the unique users and unique positive items of the batch."""
        self.ensure_bound(x_dict, graph)
        losses = []
        if self.sides != "item":
            losses.append(self._loss(USER, batch.unique_users, x_dict))
        if self.sides != "user":
            items = self._rows(ITEM, x_dict[ITEM].size(0), batch)
            losses.append(self.item_weight * self._loss(ITEM, items, x_dict))
        return torch.stack(losses).sum()

    def _loss(self, side: str, rows: Tensor, x_dict: XDict) -> Tensor:
        x_row, corrections = gather_rows(x_dict[side], rows) * self.scale, self.side(side)
        scores = list_scores(x_row, x_dict[OTHER[side]], corrections.lists[rows])
        weight = None if corrections.weight is None else corrections.weight[rows]
        return list_likelihood_loss(*scores.split(corrections.parts, dim=1), weight=weight)


class RankCorrections(nn.Module):
    r"""A teacher's ranking for every row, and the student's ranks within the same lists.

    Until :meth:`refresh` is called, the student is assumed to reverse every list. Its ranks belong
    to a run and cannot be recomputed later, so they are part of the saved state.

    Args:
        ranked: Column ids, best first, int32 ``[R, N]``, padded with -1 at the end.
        num_under: Number of columns to draw among those that the student ranks too low.
        num_over: Number of columns to draw among those that it ranks too high.
        epsilon: Steepness of the weights, per rank.
        confidence: The teacher's confidence in each place, ``[R, N]``.
    """

    ranked: Tensor
    ranks: Tensor
    lists: Tensor
    confidence: Tensor | None
    weight: Tensor | None

    def __init__(
        self,
        ranked: Tensor,
        num_under: int,
        num_over: int,
        epsilon: float,
        confidence: Tensor | None = None,
    ) -> None:
        super().__init__()
        #: Lengths of the two parts of a list.
        self.parts = [min(num, ranked.size(1)) for num in (num_under, num_over)]
        self.epsilon = epsilon
        tables = {"ranked": ranked, "confidence": confidence, "lists": None, "weight": None}
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)
        width = ranked.size(1)
        dtype = torch.int16 if width < 2**15 else torch.int32
        place = torch.arange(width, device=ranked.device)
        last = (ranked >= 0).sum(1, dtype=dtype, keepdim=True) - 1
        self.register_buffer("ranks", (last - place.to(dtype)).flatten())

    def blocks(self) -> tuple[Tensor, ...]:
        """The row ids, int64, in blocks with a bounded number of entries."""
        return row_blocks(len(self.ranked), self.ranked.size(1), BLOCK_ENTRIES, self.ranked.device)

    @torch.no_grad()
    def refresh(self, x_row: Tensor, x_col: Tensor) -> None:
        r"""Rank the entries of every list by the student's inner products.

        Equal scores count against the student: they reverse the teacher's order.

        Args:
            x_row: Representations of the rows, ``[R, d]``.
            x_col: Representations of the columns, ``[C, d]``.
        """
        ranks = self.ranks.view(self.ranked.shape)
        place = torch.arange(self.ranked.size(1), device=self.ranked.device)
        for rows in self.blocks():
            scores = list_scores(x_row[rows], x_col, self.ranked[rows].flip(1))
            order = scores.sort(dim=1, descending=True, stable=True).indices
            rank = torch.empty_like(order).scatter_(1, order, place.expand_as(order))
            ranks[rows] = rank.flip(1).to(ranks.dtype)

    def draw(self) -> None:
        r"""Draw ``lists``, int32 ``[R, sum(parts)]``: entries ranked too low, then too high.

        Entries are drawn without replacement with :math:`p \propto \tanh(\epsilon |g|)` for a gap
        of :math:`g` ranks. Both parts are in the teacher's order and padded with -1. The confidence
        in the first part is ``weight``.
        """
        ranks, drawn, weight = self.ranks.view(self.ranked.shape), [], []
        place = torch.arange(self.ranked.size(1), device=self.ranked.device)
        log_weight = (self.epsilon * place).tanh().log()
        for rows in self.blocks():
            ranked = self.ranked[rows]
            gap = torch.where(ranked < 0, 0, ranks[rows] - place)
            # Gumbel top-k: the largest perturbed log-weights are a draw without replacement. No
            # entry is both too low and too high, so one key serves both parts.
            noise = torch.empty(gap.shape, device=gap.device).exponential_().log_()
            key = log_weight[gap.abs()].sub_(noise)
            for wrong, num in zip((gap > 0, gap < 0), self.parts, strict=True):
                chosen = _largest(torch.where(wrong, key, -torch.inf), num)
                drawn.append(_at(chosen, ranked, -1))
                if self.confidence is not None and len(drawn) % 2:
                    weight.append(_at(chosen, self.confidence[rows], 0.0))
        self.lists = torch.cat([torch.cat(drawn[::2]), torch.cat(drawn[1::2])], dim=1)
        self.weight = torch.cat(weight) if weight else None


def _largest(key: Tensor, num: int) -> Tensor:
    """The places of the ``num`` largest keys of every row, ascending; behind the last for -inf."""
    width = key.size(1)
    key, place = key.topk(num, dim=1, sorted=False)
    return torch.where(key == -torch.inf, width, place).sort(dim=1).values


def _at(place: Tensor, row: Tensor, padding: float) -> Tensor:
    """The entries of rows at some places, with padding for places behind the last."""
    width = row.size(1)
    return torch.where(place == width, padding, row.gather(1, place.clamp(max=width - 1)))
