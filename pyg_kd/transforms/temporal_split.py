"""Split of all interactions at two points in time."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_kd.transforms.attributes import numbers
from pyg_kd.transforms.selection import select_
from pyg_kd.transforms.split import (
    TRAIN,
    VAL,
    Split,
    check_fractions,
    checked_edges,
    edge_times,
    has_targets,
    split_graph,
)
from pyg_kd.typing import USER


class TemporalSplit(BaseTransform):
    r"""Splits at two points in time that are the same for all users.

    Of :math:`E` interactions ordered by time, the test targets start with the time
    of number :math:`\lfloor E (1 - test) + 1/2 \rfloor`, counted from 0, and the validation
    targets with that of number :math:`\lfloor E (1 - val - test) + 1/2 \rfloor`.
    Interactions at equal times stay together: every training edge is earlier than every
    validation target, and every validation target earlier than every test target.

    No model can rank the targets of users without a training edge. Such users are removed
    with their targets, as :class:`KCore` removes nodes, and a warning says how many: the rest
    are renumbered in all three graphs, and ``raw_id`` holds their old ids.

    Returns ``(train, val, test)``: messages are in ``edge_index``, targets in
    ``edge_label_index``. The training and the validation graph have the training edges
    as messages, the test graph has training and validation edges; the training graph has
    no targets. Edge attributes follow the edges; ``time`` follows the targets as
    ``edge_label_time``. Other node and edge types are kept, whatever times their edges have,
    except that other relations from user to item lose the pairs that are held out. A graph
    that already has an ``edge_label_index`` keeps it as its test targets: ``test`` is ignored,
    and the times of these targets are not checked.

    Args:
        val: Fraction of validation targets.
        test: Fraction of test targets.

    Raises:
        TypeError: If the graph is not a ``HeteroData``.
        ValueError: If the fractions are negative or sum to 1 or more, or the graph is not
            a user-item graph, has no edges, has repeated edges, has no edge attribute
            ``time``, or its times are too coarse for the fractions.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.transforms import TemporalSplit
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     train, val, test = TemporalSplit()(SyntheticInteractions()[0])
        >>> last = train["user", "item"].time.max()
        >>> bool(last < val["user", "item"].edge_label_time.min())
        True
    """

    def __init__(self, val: float = 0.1, test: float = 0.1) -> None:
        check_fractions(val, test)
        self.val, self.test = val, test

    def forward(self, data: HeteroData) -> Split:
        """Split ``data``."""
        edge_index, num_users = checked_edges(data)
        part = self._parts(edge_times(data), 0.0 if has_targets(data) else self.test)
        user = edge_index[0]
        known = torch.zeros(num_users, dtype=torch.bool, device=user.device)
        known[user[part == TRAIN]] = True
        if not bool(known.all()):
            lost = num_users - int(known.sum())
            edges = numbers(known[user])
            data, part = select_(data, edges, {USER: numbers(known)}), part[edges]
            warnings.warn(
                f"TemporalSplit removed {lost} of {num_users} users, who have no training edge, "
                "and their targets",
                stacklevel=3,
            )
        return split_graph(data, part)

    def _parts(self, time: Tensor, test: float) -> Tensor:
        ordered = time.sort().values
        count = time.numel()
        begin_test = int(count * (1 - test) + 0.5)
        begin_val = int(count * (1 - self.val - test) + 0.5)
        part = torch.zeros_like(time, dtype=torch.long)
        for begin in (begin_val, begin_test):
            if begin < count:
                part += time >= ordered[begin]
        empty = not bool((part == TRAIN).any())
        if empty or (begin_val < begin_test and not bool((part == VAL).any())):
            raise ValueError(
                f"'time' must differ enough for val={self.val} and test={test} "
                f"(got {ordered.unique_consecutive().numel()} different times of {count} edges)"
            )
        return part

    def __repr__(self) -> str:
        return f"TemporalSplit(val={self.val}, test={self.test})"
