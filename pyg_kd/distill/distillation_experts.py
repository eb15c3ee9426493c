"""DE: experts that reconstruct the teacher's representations from the student's."""

from __future__ import annotations

from math import sqrt
from numbers import Real
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice, require_count
from pyg_kd.distill.base import Distillation
from pyg_kd.functional.experts import mixture_of_experts
from pyg_kd.functional.precision import full_precision
from pyg_kd.functional.sparse import gather_rows
from pyg_kd.typing import ITEM, USER, Batch, XDict

Variant = Literal["paper", "reference"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


def temperature_range(temperature: float | tuple[float, float]) -> tuple[float, float]:
    """The first and last temperature of a schedule, from one number or both."""
    bounds = (temperature, temperature) if isinstance(temperature, Real) else temperature
    if not (
        isinstance(bounds, (tuple, list))
        and len(bounds) == 2
        and all(isinstance(tau, Real) and tau > 0 for tau in bounds)
    ):
        raise ValueError(f"'temperature' must be one or two positive numbers (got {temperature!r})")
    return float(bounds[0]), float(bounds[1])


class ExpertMixture(nn.Module):
    """The experts of one node type and the net that selects among them."""

    def __init__(self, dim: int, hidden: int, teacher_dim: int, num_experts: int) -> None:
        super().__init__()
        self.selection = nn.Linear(teacher_dim, num_experts)
        self.w1 = nn.Parameter(torch.empty(num_experts, dim, hidden))
        self.b1 = nn.Parameter(torch.empty(num_experts, hidden))
        self.w2 = nn.Parameter(torch.empty(num_experts, hidden, teacher_dim))
        self.b2 = nn.Parameter(torch.empty(num_experts, teacher_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reinitialise all weights, uniformly within the bounds of a linear layer."""
        self.selection.reset_parameters()
        for w, b in ((self.w1, self.b1), (self.w2, self.b2)):
            bound = 1 / sqrt(w.size(1))
            nn.init.uniform_(w, -bound, bound)
            nn.init.uniform_(b, -bound, bound)

    def group(self, teacher: Tensor) -> Tensor:
        """The expert that the selection net prefers, int64 ``[n]``, without gradient."""
        with torch.no_grad():
            return self._logits(teacher).argmax(1)

    def load(self, teacher: Tensor) -> Tensor:
        r"""The share of rows that each expert is expected to get, ``[M]``, without gradient.

        Under Gumbel noise expert :math:`m` is chosen for :math:`e` with probability
        :math:`\alpha_{em}`, whatever the temperature.
        """
        with torch.no_grad():
            return self._logits(teacher).softmax(1).mean(0)

    def _logits(self, teacher: Tensor) -> Tensor:
        # Half precision would save nothing here and change assignments.
        with full_precision(teacher.device.type):
            logits: Tensor = self.selection(teacher.to(self.w1.dtype))
        return logits

    def uniform(self, num_rows: int) -> Tensor:
        """What the routing of rows is drawn from: uniform numbers, ``[n, M]``."""
        # Whatever the dtype of the experts, values near zero need at least float32.
        dtype = torch.promote_types(self.w1.dtype, torch.float32)
        return torch.rand_like(self.w1.new_empty(num_rows, len(self.w1), dtype=dtype))

    def forward(
        self, student: Tensor, teacher: Tensor, temperature: float, uniform: Tensor | None = None
    ) -> Tensor:
        """Reconstruct the teacher's representations, ``[n, d_t]``, by Gumbel-softmax routing.

        ``uniform`` is overwritten; it is drawn by :meth:`uniform` if it isn't given.
        """
        dtype = self.w1.dtype
        if uniform is None:
            uniform = self.uniform(len(student))
        log_alpha = log_softmax(self._logits(teacher), dim=1, dtype=uniform.dtype)
        # Uniform draws take a third of the time of exponential_; one in 2^24 is zero, hence clamp.
        uniform = uniform.clamp_(min=torch.finfo(torch.float32).tiny)
        gumbel = uniform.log_().neg_().log_().neg_()
        z = ((log_alpha + gumbel) / temperature).softmax(dim=1).to(dtype)
        return mixture_of_experts(student.to(dtype), z, self.w1, self.b1, self.w2, self.b2)


class DistillationExperts(Distillation):
    r"""Distillation Experts (DE) of `"DE-RRD: A Knowledge Distillation Framework for
    Recommender System" <https://arxiv.org/abs/2012.04357>`_.

    .. math::
        L = \sum_{e} \Big\| t_e - \sum_{m=1}^{M} z_{em} E_m(s_e) \Big\|^2, \qquad
        z_e = \mathrm{softmax}\!\left(\frac{\log \alpha_e + g}{\tau}\right), \qquad
        \alpha_e = \mathrm{softmax}(W t_e + b)

    over the unique users and items of a batch, with Gumbel noise :math:`g` drawn in every forward
    pass and :math:`\tau` annealed once per epoch from ``temperature[0]`` to ``temperature[1]``.
    Users and items have separate experts, two-layer perceptrons of hidden width
    :math:`\lfloor (d_s + d_t) / 2 \rfloor`, or :math:`\lfloor d_s / 2 \rfloor` if
    :math:`d_s = d_t`. Each entity runs only through the experts whose weight is at least
    :math:`10^{-6}`.

    Args:
        num_experts: Number of experts :math:`M` per node type.
        temperature: First and last :math:`\tau`; a single number keeps it constant.
        variant: ``"paper"`` (default), or ``"reference"`` for the authors' code: in place of the
            unique items it takes half the loss of the unique positives plus half that of the
            unique negatives, and :math:`\tau` lags one epoch behind.

    Raises:
        ValueError: If an option is unknown or out of range.

    Example:
        >>> DistillationExperts(num_experts=5)
        DistillationExperts(num_experts=5, temperature=(1.0, 1e-10), variant='paper')
    """

    needs = ("teacher_x",)
    row_wise: tuple[str, ...] = (USER, ITEM)

    #: Whether to halve the width of the experts if student and teacher are equally wide.
    halve_equal_widths = True

    def __init__(
        self,
        *,
        num_experts: int = 30,
        temperature: float | tuple[float, float] = (1.0, 1e-10),
        variant: Variant = "paper",
    ) -> None:
        super().__init__()
        require_choice(VARIANTS, variant=variant)
        self.variant = variant
        require_count(num_experts=num_experts)
        self.num_experts = num_experts
        self.temperature = temperature_range(temperature)
        self.tau = self.temperature[0]
        self.mixture = nn.ModuleDict()

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Create the experts and selection nets."""
        for node_type in (USER, ITEM):
            teacher = graph[node_type].teacher_x
            width = teacher.size(1)
            hidden = (dim + width) // 2
            if dim == width and self.halve_equal_widths:
                hidden = max(dim // 2, 1)
            mixture = ExpertMixture(dim, hidden, width, self.num_experts)
            self.mixture[node_type] = mixture.to(teacher.device)

    def on_epoch_start(self, epoch: int, max_epochs: int, x_dict: XDict | None = None) -> None:
        r"""Anneal: :math:`\tau_p = \tau_0 (\tau_P / \tau_0)^{p / P}`.

        In the reference variant :math:`p` is the previous epoch, so the first two epochs have
        :math:`\tau_0`.
        """
        first, last = self.temperature
        elapsed = epoch if self.variant == "paper" else max(epoch - 1, 0)
        self.tau = first * (last / first) ** (elapsed / max(max_epochs, 1))

    def group(self, node_type: str, teacher: Tensor) -> Tensor:
        """The preferred expert of each row of ``teacher``, int64 ``[n]``."""
        mixture = self.mixture[node_type]
        assert isinstance(mixture, ExpertMixture)
        return mixture.group(teacher)

    def load(self, node_type: str, teacher: Tensor) -> Tensor:
        """The share of the rows of ``teacher`` that each expert is expected to get, ``[M]``."""
        mixture = self.mixture[node_type]
        assert isinstance(mixture, ExpertMixture)
        return mixture.load(teacher)

    def uniform(self, node_type: str, num_rows: int) -> Tensor:
        """What the routing of as many rows is drawn from, ``[n, M]``."""
        mixture = self.mixture[node_type]
        assert isinstance(mixture, ExpertMixture)
        return mixture.uniform(num_rows)

    def reconstruction(
        self, node_type: str, student: Tensor, teacher: Tensor, uniform: Tensor | None = None
    ) -> Tensor:
        """Squared error of ``teacher`` (``[n, d_t]``), reconstructed from ``student``.

        ``uniform`` is what the routing is drawn from, if not anew.
        """
        reconstructed: Tensor = self.mixture[node_type](student, teacher, self.tau, uniform)
        return (teacher - reconstructed).square().sum()

    @property
    def _parts(self) -> list[tuple[float, str, str]]:
        """Weights, node types and names of the entities of a batch."""
        if self.variant == "reference":
            sides = [(0.5, ITEM, "unique_positives"), (0.5, ITEM, "unique_negatives")]
            return [(1.0, USER, "unique_users"), *sides]
        return [(1.0, USER, "unique_users"), (1.0, ITEM, "unique_items")]

    def rows_read(self, graph: HeteroData, batch: Batch) -> dict[str, Tensor | None]:
        """The entities that are reconstructed."""
        rows: dict[str, list[Tensor]] = {USER: [], ITEM: []}
        for _, node_type, name in self._parts:
            rows[node_type].append(getattr(batch, name))
        return {node_type: torch.cat(ids) for node_type, ids in rows.items()}

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """Compute the reconstruction error of the unique users and items of the batch."""
        self.ensure_bound(x_dict, graph)
        losses = []
        for weight, node_type, name in self._parts:
            index = getattr(batch, name)
            student = gather_rows(x_dict[node_type], index)
            teacher = graph[node_type].teacher_x.index_select(0, index)
            uniform = batch.own(self.uniform(node_type, len(getattr(batch.whole, name))))
            losses.append(weight * self.reconstruction(node_type, student, teacher, uniform))
        return torch.stack(losses).sum()
