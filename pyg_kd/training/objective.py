"""Base loss and distillations as one module, which is what is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.distill.base import Distillation
from pyg_kd.models.base import Recommender
from pyg_kd.typing import ITEM, USER, Batch, XDict


class Objective(nn.Module):
    r"""The sum :math:`L = w_0 L_{base} + \sum_m \lambda_m L_m`.

    Args:
        model: The student, or a teacher.
        loss: The base loss.
        distillations: Pairs of a method and its weight :math:`\lambda_m`.
        base_weight: :math:`w_0`.

    Raises:
        TypeError: If ``distillations`` is not a list of (method, weight).
        ValueError: If a weight is negative.
    """

    def __init__(
        self,
        model: Recommender,
        loss: nn.Module,
        distillations: Sequence[tuple[Distillation, float]] = (),
        base_weight: float = 1.0,
    ) -> None:
        super().__init__()
        for entry in distillations:
            if not (isinstance(entry, tuple) and isinstance(entry[0], Distillation)):
                raise TypeError(f"'distillations' must hold (method, weight) pairs (got {entry!r})")
            if entry[1] < 0:
                raise ValueError(f"the weight of {entry[0]!r} must not be negative (got {entry[1]})")
        self.model, self.loss, self.base_weight = model, loss, base_weight
        self.methods = nn.ModuleList([method for method, _ in distillations])
        self.weights = [float(weight) for _, weight in distillations]
        names = [type(method).__name__ for method, _ in distillations]
        self.names = [n if names.count(n) == 1 else f"{n}.{i}" for i, n in enumerate(names)]

    def forward(self, graph: HeteroData, batch: Batch) -> tuple[Tensor, Tensor]:
        """The weighted sum, and the unweighted terms stacked, ``[1 + methods]``."""
        x_dict = self.model(graph)
        terms = [self.loss(x_dict, batch)]
        terms += [method(x_dict, graph, batch) for method in self.methods]
        total = self.base_weight * terms[0]
        for weight, term in zip(self.weights, terms[1:], strict=True):
            total = total + weight * term
        return total, torch.stack([term.detach().float() for term in terms])

    def bind(self, graph: HeteroData) -> None:
        """Check the knowledge of the graph and make the methods' parameters."""
        for method in self.distillations:
            method.bind(graph, self.model.dim)

    @torch.no_grad()
    def on_epoch_start(self, graph: HeteroData, epoch: int, max_epochs: int) -> None:
        """Tell the methods that an epoch begins."""
        if self.methods:
            x_dict: XDict = self.model(graph)
            for method in self.distillations:
                method.on_epoch_start(epoch, max_epochs, x_dict)

    @property
    def distillations(self) -> list[Distillation]:
        """The methods."""
        return [m for m in self.methods if isinstance(m, Distillation)]


@torch.no_grad()
def collapsed(model: Recommender, graph: HeteroData) -> str | None:
    """The node type whose representations have all become the same, if there is one."""
    x_dict = model(graph)
    for node_type in (USER, ITEM):
        x = x_dict[node_type]
        if len(x) > 1 and (x - x.mean(0)).square().sum() <= 1e-8 * x.square().sum():
            return node_type
    return None
