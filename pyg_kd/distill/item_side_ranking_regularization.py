"""IR: the student ranks the users of each item in the teacher's order, too."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch_geometric.data import HeteroData
from torch_geometric.index import index2ptr

from pyg_kd.checks import require_choice, require_positive
from pyg_kd.distill.base import Distillation
from pyg_kd.distill.relaxed_ranking_distillation import (
    ListOptions,
    Position,
    RankedLists,
    RelaxedRankingDistillation,
)
from pyg_kd.functional.edge_scores import list_scores
from pyg_kd.functional.list_likelihood import list_likelihood_loss
from pyg_kd.functional.sampling import distinct_ids
from pyg_kd.functional.sparse import csr_matmul, gather_rows, sampled_matmul
from pyg_kd.typing import ITEM, USER, Batch, XDict

Expand = Literal["both", "interesting"]
EXPAND: tuple[Expand, ...] = get_args(Expand)


class ItemSideRankingRegularization(Distillation):
    r"""Item-side ranking regularization (IR, in IR-RRD) of `"Item-side ranking regularized
    distillation for recommender system" <https://doi.org/10.1016/j.ins.2021.08.060>`_.

    .. math::
        L = - \sum_{i} \sum_{k=1}^{K} \log \frac{\exp(s_{\pi_k, i})}
        {\sum_{j \geq k} \exp(s_{\pi_j, i}) + \sum_{l=1}^{L} \exp(s_{li})}

    over the distinct items :math:`i` in the lists that :class:`RelaxedRankingDistillation` holds
    for the users of a batch. :math:`\pi` are the *interesting* users of an item in the teacher's
    order, and the :math:`L` *uninteresting* users are uniform among those that neither interacted
    with the item nor appear in its list. Both are redrawn every epoch. This class is the
    regularizer alone; IR-RRD combines it with RRD:

    .. code-block:: python

        rrd = RelaxedRankingDistillation()
        distillations = [(rrd, 1e-3), (ItemSideRankingRegularization(ranking=rrd), 5e-4)]

    Without ``ranking`` the items come from separate lists, drawn from the same distribution: the
    expected loss is the same.

    Args:
        num_interesting: Length :math:`K` of an item's ranked list.
        num_uninteresting: Number :math:`L` of users below it.
        position: ``"top"`` (default) or ``"exponential"``, as in
            :class:`RelaxedRankingDistillation`.
        temperature: Temperature of the exponential scheme, in ranks.
        num_ranked: Maximum number of entries used of the teacher's list of users; by default 500,
            or half of the users if that is less.
        scale: Factor on the student's scores.
        expand: Which items of a user's list to regularise: ``"both"`` (default) parts, or only the
            ``"interesting"`` ones.
        ranking: The method whose lists are shared. By default a separate
            :class:`RelaxedRankingDistillation` with default options.

    Raises:
        TypeError: If ``ranking`` is not a :class:`RelaxedRankingDistillation`.
        ValueError: If an option is unknown or out of range, or the graph
            carries fewer than ``num_interesting`` users per item.

    Example:
        >>> ItemSideRankingRegularization(expand="interesting").num_uninteresting
        20
    """

    needs = ("teacher_items", "teacher_users")

    def __init__(
        self,
        *,
        num_interesting: int = 20,
        num_uninteresting: int = 20,
        position: Position = "top",
        temperature: float = 10.0,
        num_ranked: int | None = None,
        scale: float = 1.0,
        expand: Expand = "both",
        ranking: RelaxedRankingDistillation | None = None,
    ) -> None:
        super().__init__()
        self.options = ListOptions(
            num_interesting, num_uninteresting, position, temperature, num_ranked
        )
        require_positive(scale=scale)
        require_choice(EXPAND, expand=expand)
        if not isinstance(ranking, RelaxedRankingDistillation | None):
            raise TypeError(
                f"'ranking' must be a RelaxedRankingDistillation (got {type(ranking).__name__})"
            )
        self.num_interesting, self.num_uninteresting = num_interesting, num_uninteresting
        self.scale, self.expand = scale, expand
        self.position, self.temperature, self.num_ranked = position, temperature, num_ranked
        self.ranking = ranking
        #: The method whose lists of items are used.
        self.source = RelaxedRankingDistillation() if ranking is None else ranking

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Find the users of each item that neither interacted with it nor are ranked."""
        self.source.bind(graph, dim)
        self.num_users, self.num_items = graph[USER].num_nodes, graph[ITEM].num_nodes
        self.rankings = RankedLists(graph, ITEM, self.options)

    def on_epoch_start(self, epoch: int, max_epochs: int, x_dict: XDict | None = None) -> None:
        """Redraw the lists of all users and items."""
        # A shared list may be redrawn by its own method as well: all hooks run before any batch.
        self.source.on_epoch_start(epoch, max_epochs, x_dict)
        super().on_epoch_start(epoch, max_epochs, x_dict)

    def draw(self) -> None:
        """Redraw the lists of all items."""
        self.candidates = CandidateLists(self.rankings.draw(), self.num_users)

    @property
    def lists(self) -> Tensor:
        """The users listed for every item in this epoch, int32 ``[I, K + L]``, padded with -1."""
        return self.candidates.lists

    def items(self, batch: Batch) -> Tensor:
        """The distinct items in the lists of the batch's users, ascending, int64."""
        listed = self.source.lists[batch.whole.unique_users]
        if self.expand == "interesting":
            listed = listed[:, : self.source.num_interesting]
        return batch.own(distinct_ids(listed, self.num_items))

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """Compute the list loss of the items in the lists of the batch's users."""
        self.ensure_bound(x_dict, graph)
        self.source.ensure_bound(x_dict, graph)
        scores = self.candidates.scores(x_dict[ITEM], x_dict[USER] * self.scale, self.items(batch))
        listed = [self.num_interesting, self.num_uninteresting]
        return list_likelihood_loss(*scores.split(listed, dim=1))


#: For a batch of fewer rows than this share, sorting its own edges beats a pass over all edges.
SMALL_SHARE = 1 / 8


class CandidateLists(torch.nn.Module):
    r"""Columns listed for each row of a table, and their scores.

    :meth:`scores` equals :func:`~pyg_kd.functional.list_scores` on some of the rows, but the sort
    by column that its gradient needs is done once for all rows, not in every batch. A Module so
    that the owner's ``.to()`` moves its buffers.

    Args:
        lists: Column ids, int32 ``[R, K]``, padded with -1.
        num_cols: Number of columns.

    Example:
        >>> candidates = CandidateLists(torch.tensor([[1, -1], [0, 1]], dtype=torch.int32), 2)
        >>> candidates.scores(torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.arange(2))
        tensor([[3., -inf],
                [2., 4.]])
    """

    lists: Tensor
    ptr: Tensor | None
    row: Tensor
    place: Tensor

    def __init__(self, lists: Tensor, num_cols: int) -> None:
        super().__init__()
        self.num_cols = num_cols
        self.register_buffer("lists", lists, persistent=False)
        for name in ("ptr", "row", "place"):
            self.register_buffer(name, None, persistent=False)

    def scores(self, x_row: Tensor, x_col: Tensor, rows: Tensor) -> Tensor:
        r"""Inner products of some rows with their lists.

        Args:
            x_row: Representations of all rows, ``[R, d]``.
            x_col: Representations of all columns, ``[num_cols, d]``.
            rows: Row ids, int64 ``[B]``.

        Returns:
            Scores, ``[B, K]``, with ``-inf`` at the padding.
        """
        if rows.numel() < SMALL_SHARE * self.lists.size(0):
            return list_scores(gather_rows(x_row, rows), x_col, self.lists[rows])
        if self.ptr is None:
            self._group_by_column()
        edges = (self.lists, self.ptr, self.row, self.place)
        scores: Tensor = _CandidateScores.apply(x_row, x_col, rows, *edges)
        return scores

    def _group_by_column(self) -> None:
        # Padding is sorted with column 0 and gets no gradient.
        col, self.place = self.lists.clamp(min=0).flatten().sort(stable=True)
        self.ptr = index2ptr(col, self.num_cols)
        self.row = self.place.div(self.lists.size(1), rounding_mode="floor").to(torch.int32)


class _CandidateScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_row: Tensor, x_col: Tensor, rows: Tensor, lists: Tensor, *by_col: Tensor
    ) -> Tensor:
        listed = lists.index_select(0, rows)
        steps = torch.arange(len(rows) + 1, device=rows.device, dtype=torch.int32)
        ptr, col = steps * lists.size(1), listed.clamp(min=0).flatten()
        scores = sampled_matmul(ptr, col, x_row.index_select(0, rows), x_col)
        ctx.save_for_backward(x_row, x_col, rows, lists, listed, ptr, col, *by_col)
        return torch.where(listed < 0, -torch.inf, scores.view(listed.shape))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_row, x_col, rows, lists, listed, ptr, col, *by_col = ctx.saved_tensors
        grad = torch.where(listed < 0, 0.0, grad)
        grad_row = grad_col = None
        if ctx.needs_input_grad[0]:
            grad_rows = csr_matmul(ptr, col, grad.flatten(), x_col)
            grad_row = torch.zeros_like(x_row).index_add_(0, rows, grad_rows)
        if ctx.needs_input_grad[1]:
            col_ptr, row, place = by_col
            value = torch.zeros(lists.shape, dtype=grad.dtype, device=grad.device)
            value = value.index_add_(0, rows, grad).flatten().index_select(0, place)
            grad_col = csr_matmul(col_ptr, row, value, x_row)
        return grad_row, grad_col, None, None, None, None, None
