"""The interface that every distillation method implements."""

from __future__ import annotations

from inspect import signature
from typing import Any, ClassVar

from torch import Tensor, nn
from torch_geometric.data import HeteroData
from typing_extensions import Self

from pyg_kd.distill.whole_graph import SubgraphMethod, WholeGraph
from pyg_kd.knowledge.requirements import (
    KNOWLEDGE,
    check_knowledge,
    check_values,
    graph_fingerprint,
    knowledge_key,
)
from pyg_kd.typing import ITEM, USER, Batch, XDict


class Distillation(SubgraphMethod):
    r"""A loss between a student and the knowledge that a graph carries.

    A subclass declares what it ``needs`` and implements :meth:`forward`, which begins with
    :meth:`ensure_bound`. It may override :meth:`setup`, which creates parameters and tables,
    :meth:`draw`, which makes the random draws of an epoch, and :meth:`on_epoch_start`, if
    something anneals or follows the student. Parameters are trained with the student's and
    discarded afterwards.

    Options are keyword arguments of the constructor, stored under their own names: ``repr`` shows
    all of them, and checkpoints compare it, so that resuming with other options is refused. Tables
    are buffers, which move between devices with the method.

    Example:
        >>> class FirstCoordinates(Distillation):
        ...     needs = ("teacher_x",)
        ...
        ...     def __init__(self, *, weight=1.0):
        ...         super().__init__()
        ...         self.weight = weight
        ...
        ...     def forward(self, x_dict, graph, batch):
        ...         self.ensure_bound(x_dict, graph)
        ...         student = x_dict["user"][batch.unique_users]
        ...         teacher = graph["user"].teacher_x[batch.unique_users]
        ...         return self.weight * (student - teacher[:, : student.size(1)]).square().sum()
        >>> FirstCoordinates(weight=0.5)
        FirstCoordinates(weight=0.5)
    """

    #: Knowledge the graph must carry: ``"teacher_x"``, ``"teacher_items"``, ``"teacher_users"``,
    #: ``"teacher_trajectory"``, ``"teacher_observed"``. Where options decide it, the constructor
    #: sets ``self.needs``. Lists are padded with -1.
    needs: tuple[str, ...] = ()

    #: Whether the method takes inner products of the student's representations as its scores.
    #: Every method that needs lists does, whatever this says.
    ranks: ClassVar[bool] = False

    #: Whether the method takes inner products of ``teacher_x`` as the teacher's scores.
    teacher_scores: bool = False

    #: Whether it takes the ``teacher_scores`` of lists instead, where a graph carries these and no
    #: ``teacher_x``. Binding decides, and sets ``self.needs`` and ``self.teacher_scores``.
    listed_scores: bool = False

    #: Options to search with the data, by ``pyg-kd tune``: positive numbers, or tuples of them that
    #: are scaled together, best searched around their values on a logarithmic scale.
    tunes: tuple[str, ...] = ()

    #: Node types of whose representations it reads rows alone, and those only by
    #: :func:`~pyg_kd.functional.gather_rows` and :func:`~pyg_kd.functional.list_scores`: a step
    #: then need not take the time of all rows.
    row_wise: tuple[str, ...] = ()

    #: Whether its loss is a sum over the triples or the distinct entities of a batch, so that each
    #: of several processes can compute it for its share. Otherwise each takes the whole batch.
    splits: ClassVar[bool] = True

    _set_up = False
    _fresh = False
    _bound: tuple[tuple[str, ...], int] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not isinstance(cls.needs, tuple) or set(cls.needs) - set(KNOWLEDGE):
            raise TypeError(
                f"{cls.__name__}.needs must be a tuple of some of {tuple(KNOWLEDGE)} "
                f"(got {cls.needs!r})"
            )

    def bind(self, graph: HeteroData, dim: int) -> Self:
        r"""Bind the method to a graph and to the width of a student.

        The trainer calls this before the first epoch, after :meth:`unbind`. A loop of your own
        calls it before creating the optimiser, so that the method's parameters are trained.

        Args:
            graph: The training graph with knowledge.
            dim: Width of the student's representations.

        Raises:
            TypeError: If a constructor has not called ``super().__init__()``.
            ValueError: If the graph lacks knowledge that the method needs or carries knowledge of
                another graph, or if the method takes inner products as the teacher's scores and
                the teacher ranks by something else.
        """
        name = type(self).__name__
        self._require_constructed()
        if self.listed_scores:
            self.teacher_scores = "teacher_x" in graph[USER] or "teacher_scores" not in graph[USER]
            self.needs = ("teacher_items", "teacher_x")[: 1 + self.teacher_scores]
        check_knowledge(graph, name, self.needs)
        if self.teacher_scores and not getattr(graph, "teacher_inner_product", True):
            raise ValueError(
                f"{name} takes inner products of 'teacher_x' as the teacher's scores, but the "
                "teacher of 'graph' ranks by another score: use a teacher with inner_product=True"
            )
        key = (knowledge_key(graph) if self.needs else (), dim)
        if self._bound != key:
            if not self._set_up and any(True for _ in self.parameters()):
                raise ValueError(
                    f"{name} has parameters before setup(), which a second run would continue to "
                    "train: create them in setup()"
                )
            self.setup(graph, dim)
            self._bound, self._set_up = key, True
            self.draw()
            self._fresh = True
        self._whole = WholeGraph(graph)
        return self

    def unbind(self) -> Self:
        """Forget the graph, so that the next :meth:`bind` creates new parameters."""
        self._require_constructed()
        for module in self.modules():
            if isinstance(module, Distillation):
                module._bound = None
        return self

    def _require_constructed(self) -> None:
        if "_modules" not in vars(self):
            raise TypeError(f"{type(self).__name__}.__init__ must call super().__init__() first")

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Create parameters and tables for a graph that has already been checked."""

    def draw(self) -> None:
        """Make the random draws of an epoch: lists, pairs or samples."""

    def on_epoch_start(self, epoch: int, max_epochs: int, x_dict: XDict | None = None) -> None:
        r"""Redraw for the coming epoch; methods that anneal or follow the student extend this.

        The trainer calls it before every epoch; a loop of your own has to do the same.

        Args:
            epoch: The epoch about to start, counted from 0.
            max_epochs: Number of epochs planned.
            x_dict: The student's representations, ``[U, d_s]`` and ``[I, d_s]``, detached.

        Raises:
            TypeError: If the method follows the student and ``x_dict`` is missing.
        """
        # The first epoch uses what bind() drew, unless a run resumes at a later one.
        if epoch > 0 or not self._fresh:
            self.draw()
        self._fresh = False

    def rows_read(self, graph: HeteroData, batch: Batch) -> dict[str, Tensor | None]:
        r"""Numbers of the rows of the student's tables that :meth:`forward` reads.

        Where tables are spread over processes, these rows are fetched before. A method that is
        ``row_wise`` and reads others than those of the batch's own entities overrides it.

        Args:
            graph: The graph the method was bound to.
            batch: The mini-batch.

        Returns:
            Integers of any shape by node type, repeated or not, -1 where nothing is read; ``None``
            for the whole table.
        """
        own = {USER: batch.unique_users, ITEM: batch.unique_items}
        return {name: ids if name in self.row_wise else None for name, ids in own.items()}

    def require_student(self, x_dict: XDict | None) -> XDict:
        """Return the student's representations, or raise an error that says how to pass them."""
        if x_dict is None:
            raise TypeError(
                f"{type(self).__name__} follows the student: call on_epoch_start(epoch, "
                "max_epochs, x_dict) with x_dict={key: x.detach() for key, x in "
                "student(graph).items()} (got None)"
            )
        return x_dict

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        r"""Compute the loss of a batch, a scalar summed over its rows or entities.

        Args:
            x_dict: The student's representations of all nodes, ``[U, d_s]`` and ``[I, d_s]``.
            graph: The graph the method was bound to.
            batch: The mini-batch.
        """
        raise NotImplementedError

    def ensure_bound(self, x_dict: XDict, graph: HeteroData) -> None:
        """Bind on first use, and check that student and graph are those that were bound.

        Raises:
            RuntimeError: If a method with parameters has not been bound.
            ValueError: If the representations have another width or do not cover all nodes, or
                the method was bound to another graph.
        """
        if graph is self.trusted:
            return
        for node_type in (USER, ITEM):
            x, rows = x_dict[node_type], graph[node_type].num_nodes
            if x.dim() != 2 or x.size(0) != rows:
                raise ValueError(
                    f"'x_dict[{node_type!r}]' must have one row for each of the {rows} nodes of "
                    f"'graph', [{rows}, d] (got {list(x.shape)})"
                )
        dim = x_dict[USER].size(1)
        if self._bound is None:
            self.bind(graph, dim)
            if any(True for _ in self.parameters()):
                self._bound = None
                raise RuntimeError(
                    f"{type(self).__name__} has parameters: call .bind(graph, dim={dim}) "
                    "before creating the optimiser"
                )
        elif self._bound[1] != dim:
            raise ValueError(
                f"'x_dict' has width {dim}, but {type(self).__name__} was bound to {self._bound[1]}"
            )
        elif self._bound[0] and (
            self._bound[0] != knowledge_key(graph) or self._bound[0][0] != graph_fingerprint(graph)
        ):
            raise ValueError(
                f"'graph' is not the graph that {type(self).__name__} was bound to, or carries "
                "the knowledge of another teacher"
            )
        check_values(graph, self.needs)  # lists may have been edited since

    def __setattr__(self, name: str, value: Any) -> None:
        parts = value if isinstance(value, (tuple, list)) else (value,)
        tensors = any(isinstance(part, Tensor) for part in parts)
        known = {*vars(self).get("_buffers", ()), *vars(self).get("_parameters", ())}
        if tensors and name not in known and not isinstance(value, nn.Parameter):
            raise TypeError(
                f"{type(self).__name__}.{name} is a tensor but not a buffer: it would stay behind "
                f"when the method moves to another device. Call self.register_buffer({name!r}, "
                "None, persistent=False) in the constructor"
            )
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        name, given = type(self).__name__, signature(type(self)).parameters.values()
        options = [p.name for p in given if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        for option in options:
            if not hasattr(self, option):
                raise TypeError(f"{name} must keep its option {option!r} as self.{option}")
        return f"{name}({', '.join(f'{o}={_text(getattr(self, o))}' for o in options)})"


def _text(value: object) -> str:
    """The repr of an option; functions by name, since their addresses differ between runs."""
    return getattr(value, "__qualname__", None) or repr(value)
