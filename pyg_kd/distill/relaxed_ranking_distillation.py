"""RRD: the student ranks the teacher's top items first, in the teacher's order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice, require_count, require_positive
from pyg_kd.distill.base import Distillation
from pyg_kd.functional.ranked_lists import ranked_lists_loss
from pyg_kd.functional.sampling import UnseenItems, draw_places, row_blocks
from pyg_kd.graph import Neighbors, interactions, neighbors_of_keys
from pyg_kd.knowledge.confidence import RANKING, trusted_lists
from pyg_kd.knowledge.requirements import check_width
from pyg_kd.knowledge.values import sort_rows
from pyg_kd.typing import ITEM, USER, Batch, XDict

#: Which of the teacher's ranks the interesting items come from.
Position = Literal["top", "exponential"]
POSITIONS: tuple[Position, ...] = get_args(Position)


class RelaxedRankingDistillation(Distillation):
    r"""Relaxed Ranking Distillation (RRD) of `"DE-RRD: A Knowledge Distillation Framework for
    Recommender System" <https://arxiv.org/abs/2012.04357>`_.

    .. math::
        L = - \sum_{u} \sum_{k=1}^{K} c_{uk} \log \frac{\exp(s_{u, \pi_k})}
        {\sum_{j \geq k} \exp(s_{u, \pi_j}) + \sum_{l=1}^{L} \exp(s_{ul})}

    over the unique users of a batch. :math:`\pi` are the *interesting* items in the teacher's
    order, and the :math:`L` *uninteresting* items are uniform among those that are neither the
    user's own nor in the teacher's list. Both are redrawn every epoch. :math:`c_{uk}` is the
    teacher's confidence in the place, 1 unless the graph carries ``teacher_confidence``.

    Args:
        num_interesting: Length :math:`K` of the ranked list.
        num_uninteresting: Number :math:`L` of items below it.
        position: ``"top"`` (default) takes the teacher's first :math:`K`;
            ``"exponential"`` draws :math:`K` ranks :math:`r` without
            replacement with :math:`p(r) \propto e^{-r / T}` and sorts them.
        temperature: Temperature :math:`T` of the exponential scheme, in ranks.
        num_ranked: Maximum number of entries used of the teacher's list; by default 500, or half
            of the items if that is less.
        scale: Factor on the student's scores :math:`s_{ui}`: the inverse temperature of its base
            loss, if that has one.

    Raises:
        ValueError: If an option is unknown or out of range, or the graph carries fewer than
            ``num_interesting`` items per user, or ``num_ranked`` leaves no items to draw below
            the list.

    Example:
        >>> RelaxedRankingDistillation(num_interesting=10).num_uninteresting
        40
    """

    needs = ("teacher_items",)
    row_wise: tuple[str, ...] = (USER, ITEM)
    tunes = ("scale",)

    def __init__(
        self,
        *,
        num_interesting: int = 40,
        num_uninteresting: int = 40,
        position: Position = "top",
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
        self.position, self.temperature, self.num_ranked = position, temperature, num_ranked
        self.scale = scale
        self.lists: Tensor
        self.register_buffer("lists", None, persistent=False)

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Find the items of each user that are neither seen nor ranked."""
        self.rankings = RankedLists(graph, USER, self.options)

    def draw(self) -> None:
        """Redraw the lists of all users, int32 ``[U, K + L]``, padded with -1."""
        self.lists = self.rankings.draw()

    def rows_read(self, graph: HeteroData, batch: Batch) -> dict[str, Tensor | None]:
        """The unique users of the batch, and the items of their lists."""
        users = batch.unique_users
        return {USER: users, ITEM: self.lists[users]}

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """Compute the list loss of the unique users of the batch."""
        self.ensure_bound(x_dict, graph)
        users, weight = batch.unique_users, self.rankings.weight
        return ranked_lists_loss(
            x_dict[USER],
            x_dict[ITEM],
            users,
            self.lists.index_select(0, users),
            self.num_interesting,
            weight=None if weight is None else weight.index_select(0, users),
            scale=self.scale,
            padded=self.rankings.padded,
        )


#: Number of entries used of the teacher's list by default, for a large catalogue.
NUM_RANKED = 500

#: Ranked entries sorted at once.
BLOCK_ENTRIES = 2**17


@dataclass(frozen=True)
class ListOptions:
    """Options of the lists: see :class:`~pyg_kd.distill.RelaxedRankingDistillation`."""

    num_interesting: int
    num_uninteresting: int
    position: Position
    temperature: float
    num_ranked: int | None

    def __post_init__(self) -> None:
        require_choice(POSITIONS, position=self.position)
        require_count(
            num_interesting=self.num_interesting, num_uninteresting=self.num_uninteresting
        )
        require_positive(temperature=self.temperature)
        if self.num_ranked is not None:
            require_count(self.num_interesting, num_ranked=self.num_ranked)

    def num_used(self, num_cols: int) -> int:
        """Number of ranked entries used out of ``num_cols``; by default half stay unlisted."""
        if self.num_ranked is not None:
            return self.num_ranked
        return max(min(NUM_RANKED, num_cols // 2), self.num_interesting)

    def __str__(self) -> str:
        return (
            f"{self.num_interesting}, {self.num_uninteresting}, position={self.position!r}, "
            f"temperature={self.temperature}, num_ranked={self.num_ranked}"
        )


class RankedLists(nn.Module):
    r"""Lists of items for every user, or of users for every item.

    The first ``num_interesting`` entries come from the teacher's ranking, in its order; the
    ``num_uninteresting`` after them are uniform among nodes without an interaction that are not
    ranked.

    Args:
        graph: A graph with the teacher's rankings.
        node_type: Whose lists to draw: ``"user"`` or ``"item"``.
        options: How to draw them.

    Raises:
        ValueError: If the rankings are shorter than ``num_interesting``, or leave nothing to draw
            below them in most rows.
    """

    ranked: Tensor
    confidence: Tensor | None
    #: The confidence in the interesting entries drawn, if the graph carries one.
    weight: Tensor | None
    #: Whether lists may have padding: a ranking has, or leaves fewer than are drawn below it.
    padded: bool

    def __init__(self, graph: HeteroData, node_type: str, options: ListOptions) -> None:
        super().__init__()
        edges = interactions(graph)
        if node_type == USER:
            num_cols, method = edges.num_items, "RelaxedRankingDistillation"
        else:
            num_cols, method = edges.num_users, "ItemSideRankingRegularization"
        need = RANKING[node_type]
        check_width(graph, method, need, options.num_interesting, "num_interesting")
        self.options = options
        num_ranked = options.num_used(num_cols)
        ranked, confidence = trusted_lists(graph, num_ranked, node_type)
        tables = {"ranked": ranked, "confidence": confidence, "weight": None}
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)
        seen = edges.by_user() if node_type == USER else edges.by_item()
        listed = _seen_or_ranked(seen, self.ranked, num_cols)
        left = (num_cols - listed.degree)[self.ranked[:, 0] >= 0]
        if len(left) and int(left.median()) == 0:
            raise ValueError(
                f"'num_ranked' is {num_ranked}, which leaves none of {num_cols} "
                f"{need.removeprefix('teacher_')} to draw below the teacher's list in most rows: "
                "choose a smaller value"
            )
        self.unlisted = UnseenItems(listed, num_cols)
        few = (num_cols - listed.degree) < options.num_uninteresting
        self.padded = bool(few.any()) or bool((self.ranked < 0).any())

    def draw(self) -> Tensor:
        """Draw the lists of all rows, ``[n, num_interesting + num_uninteresting]``, -1 padded."""
        ranked, num = self.ranked, self.options.num_uninteresting
        lists = ranked.new_empty(len(ranked), self.options.num_interesting + num)
        for rows in row_blocks(len(ranked), num, BLOCK_ENTRIES, ranked.device):
            below = self.unlisted.sample(rows, num, replace=False)
            # A row without a teacher's ranking gets no tail either.
            lists[rows, -num:] = below.masked_fill_(ranked[rows, :1] < 0, -1).to(lists.dtype)
        lists[:, :-num] = self._interesting()
        return lists

    def _interesting(self) -> Tensor:
        num, options, confidence = self.options.num_interesting, self.options, self.confidence
        if options.position == "top":
            self.weight = None if confidence is None else confidence[:, :num]
            return self.ranked[:, :num]
        place = draw_places(self.ranked < 0, num, options.temperature).sort(dim=1).values
        self.weight = None if confidence is None else confidence.gather(1, place)
        return self.ranked.gather(1, place)


def _seen_or_ranked(seen: Neighbors, ranked: Tensor, num_cols: int) -> Neighbors:
    """The union of both, by blocks of rows: one sort would need several times its memory."""
    degree, cols, step = [], [], max(BLOCK_ENTRIES // ranked.size(1), 1)
    for first in range(0, len(ranked), step):
        block = sort_rows(ranked[first : first + step])
        ptr = seen.ptr[first : first + step + 1]
        start, stop = int(ptr[0]), int(ptr[-1])
        row = torch.arange(len(block), device=block.device) * num_cols
        own = row.repeat_interleave(ptr.diff(), output_size=stop - start) + seen.col[start:stop]
        listed = (row.unsqueeze(1) + block)[block >= 0]
        both = neighbors_of_keys(torch.cat([own, listed]), len(block), num_cols, merge=True)
        degree.append(both.degree)
        cols.append(both.col.to(torch.int32))
    ptr = torch.cat([seen.ptr[:1], torch.cat(degree).cumsum(0)])
    return Neighbors(ptr, torch.cat(cols))
