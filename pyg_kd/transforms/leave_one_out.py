"""One test and one validation interaction a user."""

from __future__ import annotations

import torch
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_kd.transforms.split import (
    Split,
    checked_edges,
    edge_times,
    has_targets,
    held_out,
    split_graph,
)


class LeaveOneOut(BaseTransform):
    r"""Holds out one interaction of every user for testing and one for validation.

    A user with a single interaction keeps it for training; with two, one becomes a test
    target; with more, one becomes a test and one a validation target.

    Returns ``(train, val, test)``: messages are in ``edge_index``, targets in
    ``edge_label_index``. The training and the validation graph have the training edges
    as messages, the test graph has training and validation edges; the training graph has
    no targets. Edge attributes follow the edges; ``time`` follows the targets as
    ``edge_label_time``. Other node and edge types are kept, except that other relations from
    user to item lose the pairs that are held out. A graph that already
    has an ``edge_label_index`` keeps it as its test targets, and every user with two edges or
    more gives one for validation.

    Args:
        seed: Seed of the choice. The global random state is not touched.
        by_time: If :obj:`True`, the latest interaction is the test target and the one
            before it the validation target; ``seed`` then only decides among equal times.

    Raises:
        TypeError: If the graph is not a ``HeteroData``.
        ValueError: If the graph is not a user-item graph, has no edges, has repeated
            edges, or has no edge attribute ``time`` although ``by_time`` is set.

    Example:
        >>> from pyg_kd.datasets import from_interactions
        >>> from pyg_kd.transforms import LeaveOneOut
        >>> data = from_interactions([[0, 0, 0, 0], [0, 1, 2, 3]], time=[40, 30, 20, 10])
        >>> train, val, test = LeaveOneOut(by_time=True)(data)
        >>> val["user", "item"].edge_label_index.tolist()
        [[0], [1]]
        >>> test["user", "item"].edge_label_index.tolist()
        [[0], [0]]
    """

    def __init__(self, seed: int = 0, by_time: bool = False) -> None:
        self.seed, self.by_time = seed, by_time

    def forward(self, data: HeteroData) -> Split:
        """Split ``data``."""
        edge_index, num_users = checked_edges(data)
        user = edge_index[0]
        time = edge_times(data) if self.by_time else None
        degree = torch.bincount(user, minlength=num_users)
        num_test = (degree >= 2).long() * (not has_targets(data))
        num_val = (degree - num_test >= 2).long()
        return split_graph(data, held_out(user, num_val, num_test, self.seed, time))

    def __repr__(self) -> str:
        return f"LeaveOneOut(seed={self.seed}, by_time={self.by_time})"
