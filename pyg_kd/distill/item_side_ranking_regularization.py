"""IR: the student ranks the users of each item in the teacher's order, too."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice, require_positive
from pyg_kd.distill.base import Distillation
from pyg_kd.distill.relaxed_ranking_distillation import (
    ListOptions,
    Position,
    RankedLists,
    RelaxedRankingDistillation,
)
from pyg_kd.functional.ranked_lists import ranked_lists_loss
from pyg_kd.functional.sampling import distinct_ids
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
    row_wise: tuple[str, ...] = (USER, ITEM)

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
        self.lists: Tensor
        self.register_buffer("lists", None, persistent=False)

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Find the users of each item that neither interacted with it nor are ranked."""
        self.source.bind(graph, dim)
        self.num_items = graph[ITEM].num_nodes
        self.rankings = RankedLists(graph, ITEM, self.options)

    def on_epoch_start(self, epoch: int, max_epochs: int, x_dict: XDict | None = None) -> None:
        """Redraw the lists of all users and items."""
        # A shared list may be redrawn by its own method as well: all hooks run before any batch.
        self.source.on_epoch_start(epoch, max_epochs, x_dict)
        super().on_epoch_start(epoch, max_epochs, x_dict)

    def draw(self) -> None:
        """Redraw the lists of all items, int32 ``[I, K + L]``, padded with -1."""
        self.lists = self.rankings.draw()

    def items(self, batch: Batch) -> Tensor:
        """The distinct items in the lists of the batch's users, ascending, int64."""
        listed = self.source.lists.index_select(0, batch.whole.unique_users)
        if self.expand == "interesting":
            listed = listed[:, : self.source.num_interesting]
        return batch.own(distinct_ids(listed, self.num_items))

    def rows_read(self, graph: HeteroData, batch: Batch) -> dict[str, Tensor | None]:
        """The items in the lists of the batch's users, and the users of their lists."""
        items = self.items(batch)
        return {USER: self.lists[items], ITEM: items}

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """Compute the list loss of the items in the lists of the batch's users."""
        self.ensure_bound(x_dict, graph)
        self.source.ensure_bound(x_dict, graph)
        items = self.items(batch)
        return ranked_lists_loss(
            x_dict[ITEM],
            x_dict[USER],
            items,
            self.lists.index_select(0, items),
            self.num_interesting,
            scale=self.scale,
            padded=self.rankings.padded,
        )
