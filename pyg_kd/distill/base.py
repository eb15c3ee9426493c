"""The contract every distillation method keeps."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from torch_geometric.data import HeteroData
from typing_extensions import Self

from pyg_kd.knowledge.requirements import (
    KNOWLEDGE,
    check_knowledge,
    check_values,
    knowledge_key,
)
from pyg_kd.typing import Batch, XDict


class Distillation(nn.Module):
    r"""A loss between a student and the knowledge that a graph carries.

    A subclass names what it ``needs`` and writes :meth:`forward`, which begins with
    :meth:`ensure_bound`; where it has parameters or tables it also writes :meth:`setup`, where
    they are made, and where something changes between epochs :meth:`on_epoch_start`. Its
    parameters are trained with the student's and thrown away after. One with options writes
    ``__repr__`` and names them all: a run is only continued by methods of the same text.

    Example:
        >>> class FirstCoordinates(Distillation):
        ...     needs = ("teacher_x",)
        ...
        ...     def forward(self, x_dict, graph, batch):
        ...         self.ensure_bound(x_dict, graph)
        ...         student = x_dict["user"][batch.users]
        ...         teacher = graph["user"].teacher_x[batch.users]
        ...         return (student - teacher[:, : student.size(1)]).square().sum()
    """

    #: Knowledge the graph must carry: ``"teacher_x"``, ``"teacher_items"``, ``"teacher_users"``,
    #: ``"teacher_trajectory"``, ``"teacher_observed"``. Lists are padded with -1.
    needs: ClassVar[tuple[str, ...]] = ()

    #: Whether inner products of the student's representations are taken for its scores. So does
    #: every method that needs lists.
    ranks: ClassVar[bool] = False

    #: Whether inner products of ``teacher_x`` are taken for the teacher's scores.
    teacher_scores: bool = False

    _set_up = False
    _bound: tuple[tuple[str, ...], int] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not isinstance(cls.needs, tuple) or set(cls.needs) - set(KNOWLEDGE):
            raise TypeError(
                f"{cls.__name__}.needs must be a tuple of some of {tuple(KNOWLEDGE)} "
                f"(got {cls.needs!r})"
            )

    def bind(self, graph: HeteroData, dim: int) -> Self:
        r"""Tie the method to a graph and to the width of a student.

        The trainer calls this before the first epoch, after :meth:`unbind`. A plain loop
        calls it before the optimiser is made, so that the method's parameters train.

        Args:
            graph: The training graph with knowledge.
            dim: Width of the student's representations.

        Raises:
            ValueError: If the graph lacks what the method needs, carries
                knowledge of another graph, or a teacher whose score is another.
        """
        name = type(self).__name__
        check_knowledge(graph, name, self.needs)
        if self.teacher_scores and not getattr(graph, "teacher_inner_product", True):
            raise ValueError(
                f"{name} takes inner products of 'teacher_x' for the teacher's scores, but the "
                "teacher of 'graph' ranks by another score: take a teacher with inner_product=True"
            )
        key = (knowledge_key(graph) if self.needs else (), dim)
        if self._bound != key:
            if not self._set_up and any(True for _ in self.parameters()):
                raise ValueError(
                    f"{name} has parameters before it is set up, which a second run would go on "
                    "training: make them in setup()"
                )
            self.setup(graph, dim)
            self._bound, self._set_up = key, True
        return self

    def unbind(self) -> Self:
        """Forget the graph, so that the next :meth:`bind` makes parameters anew."""
        for module in self.modules():
            if isinstance(module, Distillation):
                module._bound = None
        return self

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Make parameters and tables for a graph that has been checked."""

    def on_epoch_start(self, epoch: int, max_epochs: int, x_dict: XDict | None = None) -> None:
        r"""Resample, anneal or refresh.

        Args:
            epoch: Epoch that is about to start, from 0.
            max_epochs: Number of epochs planned.
            x_dict: The student's representations, without gradient.
        """

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        r"""The loss of a batch, a scalar.

        Args:
            x_dict: The student's representations, ``[U, d_s]`` and ``[I, d_s]``.
            graph: The graph the method was bound to.
            batch: The mini-batch.
        """
        raise NotImplementedError

    def ensure_bound(self, x_dict: XDict, graph: HeteroData) -> None:
        """Bind on first use; a method with parameters must have been bound before."""
        dim = x_dict["user"].size(1)
        if self._bound is None:
            self.bind(graph, dim)
            if any(True for _ in self.parameters()):
                self._bound = None
                raise RuntimeError(
                    f"{type(self).__name__} has parameters: call .bind(graph, dim={dim}) "
                    "before the optimiser is made"
                )
        elif self._bound[1] != dim:
            raise ValueError(
                f"'x_dict' has width {dim}, {type(self).__name__} was bound to {self._bound[1]}"
            )
        elif self._bound[0] not in ((), knowledge_key(graph)):
            raise ValueError(
                f"'graph' is not the graph that {type(self).__name__} was bound to, or carries "
                "the knowledge of another teacher"
            )
        check_values(graph, self.needs)  # lists may have been edited since
