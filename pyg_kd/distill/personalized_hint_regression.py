"""PHR: each entity has its own projection, generated from its teacher representation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count
from pyg_kd.distill.base import Distillation
from pyg_kd.functional.precision import ROWS, add_product_, full_precision, pad_rows, product_dtype
from pyg_kd.functional.sparse import csr_matmul, gather_rows
from pyg_kd.graph import Neighbors, interactions
from pyg_kd.typing import ITEM, USER, Batch, XDict

#: Entries of the projections held at once, whatever the size of the batch.
BLOCK_ENTRIES = 2**21


class PersonalizedHintRegression(Distillation):
    r"""Personalized Hint Regression (PHR) of `"Personalized Knowledge Distillation for
    Recommender System" <https://doi.org/10.1016/j.knosys.2021.107958>`_.

    .. math::
        L = \sum_{e} \| t_e - \Theta_e s_e \|^2, \qquad
        \Theta_e = \mathrm{reshape}(p(v_e), d_t \times d_s), \qquad
        v_e = \frac{1}{2} \Big( t_e + \frac{1}{|N_e|} \sum_{n \in N_e} t_n \Big)

    over the unique users and items of a batch. The personalization net :math:`p`
    (:math:`d_t \to h \to d_t d_s`, ReLU) sees the teacher's representation averaged with the mean
    of its neighbours' in the training graph, computed once; without neighbours :math:`v_e = t_e`.

    A step takes :math:`6 h d_t d_s` operations per entity, nearly all of them in matrix products,
    which run in bfloat16 under bfloat16 autocast. Projections are computed block by block and never
    stored.

    Args:
        hidden: Width :math:`h`. ``None`` (default) takes the paper's
            :math:`\lfloor (d_t + d_t d_s) / 2 \rfloor`; time is proportional to it.
        enrich: ``False`` feeds :math:`t_e` instead of :math:`v_e`.
        shared: Share one net between users and items (default), or give each its own.

    Raises:
        ValueError: If ``hidden`` is not a positive integer.

    Example:
        >>> PersonalizedHintRegression(hidden=128)
        PersonalizedHintRegression(hidden=128, enrich=True, shared=True)
    """

    needs = ("teacher_x",)
    row_wise: tuple[str, ...] = (USER, ITEM)

    def __init__(
        self, *, hidden: int | None = None, enrich: bool = True, shared: bool = True
    ) -> None:
        super().__init__()
        if hidden is not None:
            require_count(hidden=hidden)
        self.hidden, self.enrich, self.shared = hidden, enrich, shared
        self.nets = nn.ModuleList()
        self.register_buffer("user_view", None, persistent=False)
        self.register_buffer("item_view", None, persistent=False)

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Create the nets, and average the neighbours once."""
        t_user, t_item = graph[USER].teacher_x, graph[ITEM].teacher_x
        width = t_user.size(1)
        hidden = (width + width * dim) // 2 if self.hidden is None else self.hidden
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width * dim))
            for _ in range(1 if self.shared else 2)
        ).to(t_user.device)
        if self.enrich:
            edges = interactions(graph)
            self.user_view = _with_neighbors(t_user, t_item, edges.by_user())
            self.item_view = _with_neighbors(t_item, t_user, edges.by_item())

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """Compute the squared error of the unique users and items of the batch."""
        self.ensure_bound(x_dict, graph)
        parts: list[tuple[Tensor, ...]] = []
        for node_type, index in ((USER, batch.unique_users), (ITEM, batch.unique_items)):
            teacher = graph[node_type].teacher_x
            view = getattr(self, f"{node_type}_view") if self.enrich else teacher
            constant = (x.index_select(0, index) for x in (teacher, view))
            parts.append((gather_rows(x_dict[node_type], index), *constant))
        if self.shared:
            parts = [tuple(torch.cat(part) for part in zip(*parts, strict=True))]
        pairs = zip(self.nets, parts, strict=True)
        losses = [_Regression.apply(*rows, *net.parameters()) for net, rows in pairs]
        return torch.stack(losses).sum()


def _with_neighbors(x: Tensor, x_other: Tensor, neighbors: Neighbors) -> Tensor:
    """The average of each row of ``x`` and the mean of its neighbours in ``x_other``."""
    degree = neighbors.degree
    weight = torch.repeat_interleave(degree.to(x.dtype).reciprocal(), degree)
    mean = csr_matmul(neighbors.ptr.int(), neighbors.col.int(), weight, x_other)
    return torch.where(degree.unsqueeze(1) > 0, (x + mean) / 2, x)


class _Regression(torch.autograd.Function):
    """Value and gradient block by block in one pass: no projection is stored or recomputed."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, view: Tensor, *net: Tensor) -> Tensor:
        device, dtype = student.device.type, net[0].dtype
        low = product_dtype(device, dtype)
        student, teacher, view = (x.to(dtype) for x in (student, teacher, view))
        with full_precision(device):
            loss, *grads = _regression(student, teacher, view, net, low)
        ctx.save_for_backward(*grads)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        student, *net = (grad * saved for saved in ctx.saved_tensors)
        return student, None, None, *net


def _regression(
    student: Tensor, teacher: Tensor, view: Tensor, net: tuple[Tensor, ...], low: torch.dtype
) -> list[Tensor]:
    n = len(student)
    student, teacher, view = pad_rows(student, teacher, view, low=low)
    loss, g_student = student.new_zeros(()), torch.empty_like(student)
    w1, b1, w2, b2 = (v.to(low) for v in net)
    gw1, gb1, gw2, gb2 = g_net = [torch.zeros_like(v) for v in net]
    size = max(BLOCK_ENTRIES // w2.size(0), 1)
    size = size // ROWS * ROWS or size
    blocks = zip(*(x.split(size) for x in (student, teacher, view.to(low), g_student)), strict=True)
    for s, t, v, gs in blocks:
        hidden = torch.addmm(b1, v, w1.t()).relu_()
        theta = torch.addmm(b2, hidden, w2.t()).unflatten(1, (-1, s.size(1)))
        error = torch.bmm(theta, s.to(low).unsqueeze(2)).squeeze(2) - t
        loss += error.square().sum()
        error *= 2
        gs.copy_(torch.bmm(error.to(low).unsqueeze(1), theta).squeeze(1))
        g_theta = torch.mul(error.unsqueeze(2), s.unsqueeze(1), out=theta).flatten(1)
        g_hidden = (g_theta @ w2).mul_(hidden > 0)
        for gw, gb, left, right in ((gw1, gb1, g_hidden, v), (gw2, gb2, g_theta, hidden)):
            add_product_(gw, left.t(), right)
            gb += left.sum(0)
    return [loss, g_student[:n], *g_net]
