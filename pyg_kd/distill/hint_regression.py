"""Hint regression: a projector per node type maps the student's space to the teacher's."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice
from pyg_kd.distill.base import Distillation
from pyg_kd.functional.sparse import gather_rows
from pyg_kd.typing import ITEM, USER, Batch, XDict

Projector = Literal["linear", "mlp"]
PROJECTORS: tuple[Projector, ...] = get_args(Projector)


class HintRegression(Distillation):
    r"""Hint regression of `"FitNets: Hints for Thin Deep Nets"
    <https://arxiv.org/abs/1412.6550>`_, on the representations of users and items.

    .. math::
        L = \sum_{e} \| t_e - f(s_e) \|^2, \qquad f(s) = W s + b

    over the unique users and items of a batch, with separate projectors :math:`f` for users and
    items. FitNets halves the error; work on recommendation, where this is the baseline of
    :class:`DistillationExperts`, does not, and neither does this class.

    Args:
        projector: ``"linear"`` (default), or ``"mlp"`` with one hidden layer of
            width :math:`\lfloor (d_s + d_t) / 2 \rfloor` and ReLU, which for :math:`d_s < d_t`
            equals a single expert of :class:`DistillationExperts`.

    Raises:
        ValueError: If ``projector`` is unknown.

    Example:
        >>> HintRegression()
        HintRegression(projector='linear')
    """

    needs = ("teacher_x",)
    row_wise: tuple[str, ...] = (USER, ITEM)

    def __init__(self, *, projector: Projector = "linear") -> None:
        super().__init__()
        require_choice(PROJECTORS, projector=projector)
        self.projector = projector
        self.projectors = nn.ModuleDict()

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Create the projectors."""
        for node_type in (USER, ITEM):
            teacher = graph[node_type].teacher_x
            self.projectors[node_type] = self._new_projector(dim, teacher.size(1)).to(
                teacher.device
            )

    def _new_projector(self, dim: int, teacher_dim: int) -> nn.Module:
        if self.projector == "linear":
            return nn.Linear(dim, teacher_dim)
        hidden = (dim + teacher_dim) // 2
        return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, teacher_dim))

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """Compute the squared error of the unique users and items of the batch."""
        self.ensure_bound(x_dict, graph)
        losses: list[Tensor] = []
        for node_type, index in ((USER, batch.unique_users), (ITEM, batch.unique_items)):
            net = self.projectors[node_type]
            student = gather_rows(x_dict[node_type], index).to(next(net.parameters()).dtype)
            teacher = graph[node_type].teacher_x.index_select(0, index)
            losses.append((teacher - net(student)).square().sum())
        return losses[0] + losses[1]
