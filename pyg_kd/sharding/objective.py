"""One step of a student's tables that lie on several processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch_geometric.data import HeteroData

from pyg_kd.distill.base import Distillation
from pyg_kd.sharding.model import ShardedMF
from pyg_kd.sharding.options import ShardedOptions
from pyg_kd.sharding.reading import as_tables, part_of, rows_read
from pyg_kd.training import exchange
from pyg_kd.typing import Batch, XDict


class ShardedObjective:
    r"""The sum :math:`L = w_0 L_{base} + \sum_m \lambda_m L_m` of a batch that processes share.

    Args:
        options: The trainer's options.
        model: The sharded model.
        data: The graph with the knowledge that methods need.
        distillations: Pairs of a method, bound to the graph, and its weight :math:`\lambda_m`.
    """

    def __init__(
        self,
        options: ShardedOptions,
        model: ShardedMF,
        data: HeteroData,
        distillations: Sequence[tuple[Distillation, float]],
    ) -> None:
        self.model, self.data = model, data
        self.loss: nn.Module = options.base_loss.to(model.device)
        self.methods = nn.ModuleList([method for method, _ in distillations]).to(model.device)
        self.weights = [options.base_weight, *(float(weight) for _, weight in distillations)]
        names = [type(method).__name__ for method, _ in distillations]
        self.names = [n if names.count(n) == 1 else f"{n}.{i}" for i, n in enumerate(names)]
        self.rank, self.num_processes = dist.get_rank(), dist.get_world_size()
        self.parameters = [*self.loss.parameters(), *self.methods.parameters()]
        self.adam: torch.optim.Adam | None = None
        if self.parameters:
            self.adam = torch.optim.Adam(self.parameters, lr=options.method_lr)

    @property
    def distillations(self) -> list[Distillation]:
        """The methods."""
        return [m for m in self.methods if isinstance(m, Distillation)]

    @property
    def owners(self) -> list[nn.Module]:
        """What the terms of the loss come from, the base loss first."""
        return [self.loss, *self.methods]

    def step(self, whole: Batch) -> Tensor:
        """One step on this process's share of a batch; the terms of its loss, ``[1 + methods]``."""
        batch = whole.share(self.rank, self.num_processes, exchange.total)
        ids = rows_read(self.owners, self.data, batch)
        rows = self.model.fetch(ids)
        # Leaves, so that every process sends gradients of all rows it fetched, in one order.
        leaves = {name: x.detach().requires_grad_() for name, x in rows.items()}
        terms = self.terms(as_tables(leaves, ids, self.model.sizes), batch)
        total = terms[0] * self.weights[0]
        for weight, term in zip(self.weights[1:], terms[1:], strict=True):
            total = total + weight * term
        if total.requires_grad:  # a share may be empty
            total.backward()
        # Losses are sums over the batch, and the tables divide by the number of processes.
        grads = [
            torch.zeros_like(x) if x.grad is None else x.grad * self.num_processes
            for x in leaves.values()
        ]
        torch.autograd.backward(list(rows.values()), grads)
        if self.adam is not None:
            exchange.sum_gradients(self.parameters)
            self.adam.step()
            self.adam.zero_grad(set_to_none=True)
        return torch.stack([term.detach().double() for term in terms])

    def terms(self, x_dict: XDict, batch: Batch) -> list[Tensor]:
        """The unweighted terms of the loss, scalars, which add up over the processes."""
        terms = []
        for name, owner in zip(("the base loss", *self.names), self.owners, strict=True):
            part = part_of(owner, batch)
            reads_graph = isinstance(owner, Distillation) or getattr(owner, "reads_graph", False)
            term = owner(x_dict, self.data, part) if reads_graph else owner(x_dict, part)
            if not isinstance(term, Tensor) or term.dim():
                found = f"shape {list(term.shape)}" if isinstance(term, Tensor) else repr(term)
                raise ValueError(f"{name} must be a scalar tensor (got {found})")
            # What each process computes of the whole batch counts once.
            terms.append(term * (part.num_shares / batch.num_shares) if part is not batch else term)
        return terms
