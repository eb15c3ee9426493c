"""Base loss and distillations as one module, which is what is trained."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.distill.base import Distillation
from pyg_kd.distill.soft_label import SoftLabel
from pyg_kd.functional.kept_gradients import end_kept_gradient, keep_gradient
from pyg_kd.models.base import Recommender
from pyg_kd.models.inference import inference, represent
from pyg_kd.training.exchange import total
from pyg_kd.training.rows_on_demand import RowsOnDemand
from pyg_kd.typing import ITEM, USER, Batch, XDict


class Objective(nn.Module):
    r"""The sum :math:`L = w_0 L_{base} + \sum_m \lambda_m L_m`.

    Args:
        model: The student, or a teacher.
        loss: The base loss; ``None`` for the model's own.
        distillations: Pairs of a method and its weight :math:`\lambda_m`.
        base_weight: :math:`w_0`.

    Raises:
        TypeError: If ``distillations`` is not a list of (method, weight).
        ValueError: If a weight is negative, or a ranking method meets a student
            whose score is not an inner product.
    """

    def __init__(
        self,
        model: Recommender,
        loss: nn.Module | None,
        distillations: Sequence[tuple[Distillation, float]] = (),
        base_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_distillations(distillations)
        check_student(model, distillations)
        self.model, self.loss, self.base_weight = model, loss, base_weight
        self.methods = nn.ModuleList([method for method, _ in distillations])
        self.weights = [float(weight) for _, weight in distillations]
        names = [type(method).__name__ for method, _ in distillations]
        self.names = [n if names.count(n) == 1 else f"{n}.{i}" for i, n in enumerate(names)]
        self._shared: XDict | None = None
        self._tables: tuple[HeteroData, XDict] | None = None
        #: A graph that nobody changes at present, until methods have checked it.
        self._steady: HeteroData | None = None
        self._in_place = False
        #: What represents the nodes of a batch in training; by default the model, of all nodes.
        self.on_demand: RowsOnDemand | None = None
        #: The number of this process, and how many share every batch.
        self.place = 0, 1

    @contextmanager
    def steady(self, graph: HeteroData, in_place: bool) -> Iterator[None]:
        """Inside, nobody changes the graph, which methods check with the first batch alone.

        Args:
            graph: The graph of all batches.
            in_place: Whether terms add gradients of representations that are tables to these in
                place, which asks for a ``backward()`` of the sum and nothing else.
        """
        self._steady, self._in_place = graph, in_place
        try:
            yield
        finally:
            self._steady, self._in_place = None, False
            self._trust(None)
            if self.on_demand is not None:
                self.on_demand.forget()
            for parameter in self.model.parameters():
                end_kept_gradient(parameter)

    def _trust(self, graph: HeteroData | None) -> None:
        """Tell all methods, and those inside of others, which graph needs no checks."""
        for method in self.methods.modules():
            if isinstance(method, Distillation):
                method.trusted = graph

    @contextmanager
    def shared_representations(self, graph: HeteroData) -> Iterator[None]:
        """The model is applied once for all batches inside, and differentiated once after them.

        Gradients add up at the representations, which takes the memory of one batch, and go on
        from there to the model's parameters as the sum that they are.
        """
        x_dict: XDict = self.model(graph) if self.reads else {}
        leaves = {k: x if x.is_leaf else x.detach().requires_grad_() for k, x in x_dict.items()}
        self._shared = leaves
        try:
            yield
        finally:
            self._shared = None
        grads = {k: leaves[k].grad for k, x in x_dict.items() if not x.is_leaf}
        ends = {k: grad for k, grad in grads.items() if grad is not None}
        if ends:
            torch.autograd.backward([x_dict[k] for k in ends], list(ends.values()))

    def forward(
        self, graph: HeteroData, user: Tensor, positive: Tensor, negative: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The weighted sum, and the unweighted terms stacked, ``[1 + methods]``.

        Of a batch that processes share, each gets terms that add up to those of the whole.
        """
        # Plain tensors, not a Batch: the wrappers for precision and for several processes look
        # for tensors among the arguments.
        terms = self.terms(graph, Batch(user, positive, negative).share(*self.place, total))
        weighted = terms[0] if self.base_weight == 1 else self.base_weight * terms[0]
        for weight, term in zip(self.weights, terms[1:], strict=True):
            weighted = weighted + weight * term
        dtype = float64_of(weighted.device)
        return weighted, torch.stack([term.detach() for term in terms]).to(dtype)

    def terms(self, graph: HeteroData, batch: Batch) -> list[Tensor]:
        """The unweighted terms of the sum, scalars with their graphs, the base loss first."""
        x_dict, terms = self._representations(graph, batch), []
        for name, owner in zip(
            ("the base loss", *self.names), (self.loss, *self.methods), strict=True
        ):
            part = batch if self._splits(owner) else batch.whole
            term = self._term(owner, x_dict, graph, part)
            if not isinstance(term, Tensor) or term.dim():
                found = f"shape {list(term.shape)}" if isinstance(term, Tensor) else repr(term)
                raise ValueError(f"{name} must be a scalar tensor (got {found})")
            # What each process computes of the whole batch counts once.
            terms.append(term * (part.num_shares / batch.num_shares) if part is not batch else term)
        if self._steady is graph:
            self._trust(graph)
            self._steady = None
        return terms

    def _term(
        self, owner: nn.Module | None, x_dict: XDict, graph: HeteroData, batch: Batch
    ) -> Tensor:
        if owner is None:
            return self.model.own_loss(x_dict, graph, batch)
        reads_graph = isinstance(owner, Distillation) or getattr(owner, "reads_graph", False)
        term: Tensor = owner(x_dict, graph, batch) if reads_graph else owner(x_dict, batch)
        return term

    def _splits(self, owner: nn.Module | None) -> bool:
        """Whether a term of the whole batch is the sum of those of its shares."""
        # A model that balances its own losses sees what others add to its gradients, too.
        own = self.loss is not None or self.model.own_loss_splits
        return own and bool(getattr(owner, "splits", True))

    def _representations(self, graph: HeteroData, batch: Batch) -> XDict:
        if self._shared is not None:
            return self._shared
        if self.on_demand is not None and self.model.training:
            return self.on_demand.represent([self.loss, *self.methods], graph, batch)
        if self._tables is not None and self._tables[0] is graph:
            return self._tables[1]
        x_dict: XDict = self.model(graph) if self.reads else {}
        # Parameters as they are stay what the model returns: there is nothing to compute.
        if all(isinstance(x, nn.Parameter) for x in x_dict.values()):
            self._tables = graph, x_dict
            if self._in_place:
                for x in x_dict.values():
                    keep_gradient(x)
        return x_dict

    def bind(self, graph: HeteroData) -> None:
        """Check the model on the graph and its knowledge, and make the methods' parameters anew."""
        if self.reads:
            with inference(self.model):
                # NaN is for the first epoch to report, with its cause.
                x_dict = represent(self.model, graph, allow_nan=True)
            for node_type in (USER, ITEM):
                if x_dict[node_type].size(1) != self.model.out_dim:
                    raise ValueError(
                        f"'model' returns representations of {node_type!r} of width "
                        f"{x_dict[node_type].size(1)}, its 'out_dim' is {self.model.out_dim}: "
                        "override the property out_dim where the width is not 'dim'"
                    )
        for method in self.distillations:
            method.unbind().bind(graph, self.model.out_dim)

    @torch.no_grad()
    def on_epoch_start(self, graph: HeteroData, epoch: int, max_epochs: int) -> None:
        """Tell the methods that an epoch begins, with the representations served by now."""
        self._tables = None
        if self.on_demand is not None:
            self.on_demand.begin_epoch(epoch)
        if self.methods:
            with inference(self.model):
                # A model may return its embedding tables themselves, which are parameters.
                x_dict: XDict = {key: x.detach() for key, x in self.model(graph).items()}
            for method in self.distillations:
                method.on_epoch_start(epoch, max_epochs, x_dict)

    @property
    def row_wise(self) -> set[str]:
        """Node types of whose representations every term reads rows alone."""
        found = {USER, ITEM}.intersection(getattr(self.loss, "row_wise", ()))
        return found.intersection(*(method.row_wise for method in self.distillations))

    @property
    def reads(self) -> bool:
        """Whether a term of the sum reads the model's representations."""
        return self.loss is not None or len(self.methods) > 0 or self.model.own_loss_reads

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters; those of modules with ``decays = False`` are free of weight decay."""
        exempt = {
            p for m in self.modules() if not getattr(m, "decays", True) for p in m.parameters()
        }
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters() if p not in exempt]},
            {"params": [p for p in self.parameters() if p in exempt], "weight_decay": 0.0},
        ]
        return groups if exempt else groups[:1]

    @property
    def distillations(self) -> list[Distillation]:
        """The methods."""
        return [m for m in self.methods if isinstance(m, Distillation)]


def float64_of(device: torch.device) -> torch.dtype:
    """Float64, or float32 on a device without it."""
    return torch.float if device.type == "mps" else torch.double


def check_distillations(distillations: Sequence[tuple[Distillation, float]]) -> None:
    """Raise unless ``distillations`` is a list of (method, weight) with weights of 0 or more."""
    if not isinstance(distillations, Sequence):
        raise TypeError(f"'distillations' must be a list of pairs (got {distillations!r})")
    for entry in distillations:
        pair = entry if isinstance(entry, tuple) and len(entry) == 2 else (None, None)
        if not (isinstance(pair[0], Distillation) and isinstance(pair[1], Real)):
            raise TypeError(f"'distillations' must hold (method, weight) pairs (got {entry!r})")
        if not 0 <= pair[1] < float("inf"):
            raise ValueError(
                f"the weight of {pair[0]!r} must be finite and not negative (got {pair[1]})"
            )


def check_terms(
    base_weight: float, distillations: Sequence[tuple[Distillation, float]], stacklevel: int = 3
) -> None:
    """Refuse a loss without terms, and warn of one that only pushes training items down."""
    if base_weight:
        return
    methods = [method for method, weight in distillations if weight]
    if not methods:
        raise ValueError(
            "nothing would be trained: 'base_weight' is 0, and no distillation has a positive "
            "weight"
        )
    if all(
        isinstance(m, SoftLabel) and (m.tail, m.own) == ("catalogue", "ignore") and not m.own_weight
        for m in methods
    ):
        warnings.warn(
            "with 'base_weight' 0 and SoftLabel's 'own_weight' 0 nothing raises the training "
            "items, while the softmax over the catalogue pushes them down: set own='mask', or "
            "'own_weight', or keep a base loss",
            stacklevel=stacklevel,
        )


def check_student(model: Recommender, distillations: Sequence[tuple[Distillation, float]]) -> None:
    """Raise ``ValueError`` if a method would teach scores that the model does not serve."""
    for method, _ in distillations:
        ranks = method.ranks or bool(set(method.needs) - {"teacher_x"})
        if ranks and not model.inner_product:
            raise ValueError(
                f"{type(method).__name__} ranks by inner products, but the score of "
                f"{type(model).__name__} is not one: distil into a model with inner_product=True"
            )
