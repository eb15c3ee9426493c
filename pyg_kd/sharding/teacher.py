"""A sharded teacher's representations on a graph, of which a step fetches what it reads."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.functional.row_tables import make_row_table
from pyg_kd.knowledge.requirements import graph_fingerprint, name_source
from pyg_kd.sharding.model import ShardedMF
from pyg_kd.sharding.together import together
from pyg_kd.typing import ITEM, USER


def attach_teacher(data: HeteroData, teacher: ShardedMF) -> HeteroData:
    r"""Attach a sharded teacher's representations to a graph, without a copy of them.

    The result is ``data``, copied shallowly, with ``teacher_x`` of users and items, which methods
    such as TD and DE read by rows; all processes call this and the methods together. Lists of the
    same teacher, which :func:`~pyg_kd.knowledge.extract_knowledge` made from
    :func:`~pyg_kd.sharding.map_model` or from an :class:`~pyg_kd.models.MF` of the same tables,
    stay on the graph.

    Args:
        data: The training graph, with or without lists.
        teacher: The teacher, which must not be trained any more.

    Raises:
        ValueError: If the teacher is of another graph, or a row is not finite.
    """
    fingerprint = graph_fingerprint(data)
    if teacher.fitted_on not in (None, fingerprint):
        raise ValueError(
            f"'teacher' was fitted on another graph (fingerprint {teacher.fitted_on:.12}, 'data' "
            f"has {fingerprint:.12}) and may have seen targets that 'data' holds out"
        )
    sizes = {name: int(data[name].num_nodes or 0) for name in (USER, ITEM)}
    if sizes != teacher.sizes:
        raise ValueError(f"'data' has {sizes} nodes, the teacher was built for {teacher.sizes}")
    together(lambda: _check_finite(teacher))
    graph = copy.copy(data)
    name_source(graph, fingerprint, teacher.fingerprint())
    graph.teacher_inner_product = True
    for name in (USER, ITEM):
        graph[name].teacher_x = TeacherTable(teacher, name)
    return graph


class TeacherTable(Tensor):
    r"""A table ``[n, d]`` whose rows are fetched when they are read.

    It is read by integer indices of its rows, as ``x[index]``, ``x.index_select(0, index)`` and by
    :func:`~pyg_kd.functional.gather_rows`, in all processes together. Anything else is refused.

    Args:
        model: The sharded model.
        node_type: Which of its tables.
    """

    model: ShardedMF
    node_type: str

    @staticmethod
    def __new__(cls, model: ShardedMF, node_type: str) -> TeacherTable:
        """A tensor without storage."""
        made: TeacherTable = Tensor._make_wrapper_subclass(
            cls, (model.sizes[node_type], model.dim), dtype=torch.float32, device=model.device
        )
        return made

    def __init__(self, model: ShardedMF, node_type: str) -> None:
        self.model, self.node_type = model, node_type
        make_row_table(self, self._read)

    def _read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The distinct rows that are asked for, and the places of ``index`` among them."""
        ids, place = index.long().unique(return_inverse=True)
        return self.model.rows(self.node_type, ids), place

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        index = None
        if func is Tensor.__getitem__:
            index = args[1]
        elif func in (Tensor.index_select, torch.index_select) and args[1] == 0:
            index = args[2]
        if isinstance(args[0], TeacherTable) and isinstance(index, Tensor):
            rows, place = args[0]._read(index)
            return rows[place]
        plain: Any = super()
        return plain.__torch_function__(func, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.pyg_kd.check_finite.default:
            return torch.empty(0, device=args[0].device)  # it was checked where the rows are
        raise TypeError(
            f"{func} reads the representations of a sharded teacher as a whole: methods that read "
            "rows of 'teacher_x' take it, others need extract_knowledge of a mapped teacher"
        )

    def to(self, *args: Any, **kwargs: Any) -> TeacherTable:
        """Itself: rows are fetched to where the model has its own."""
        return self

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"TeacherTable({list(self.shape)}, {self.node_type!r})"


def _check_finite(teacher: ShardedMF) -> None:
    for name in teacher.sizes:
        for first, rows in teacher.local_rows(name):
            for start in range(0, len(rows), 1 << 16):
                part = rows[start : start + (1 << 16)]
                if not bool(part.isfinite().all()):
                    row = first + start + int((~part.isfinite().all(1)).nonzero()[0])
                    raise ValueError(f"row {row} of the teacher's {name!r} table is not finite")
