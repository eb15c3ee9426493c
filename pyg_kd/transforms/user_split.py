"""Random split of every user's interactions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_kd.transforms.split import (
    Split,
    check_fractions,
    checked_edges,
    has_targets,
    held_out,
    split_graph,
)


class UserSplit(BaseTransform):
    r"""Splits the interactions of every user at random.

    Of the :math:`n` interactions of a user, :math:`\lfloor n \cdot test + 1/2 \rfloor`
    become test targets, but at most :math:`n - 1`; then
    :math:`\lfloor n \cdot val + 1/2 \rfloor` become validation targets, but never the
    last one left. So every user who has an edge keeps one for training.

    Returns ``(train, val, test)``: messages are in ``edge_index``, targets in
    ``edge_label_index``. The training and the validation graph have the training edges
    as messages, the test graph has training and validation edges; the training graph has
    no targets. Edge attributes follow the edges; ``time`` follows the targets as
    ``edge_label_time``. Other node and edge types are kept, except that other relations from
    user to item lose the pairs that are held out. A graph that already
    has an ``edge_label_index`` keeps it as its test targets: ``test`` is ignored and all edges
    are split into training and validation.

    A small ``val`` leaves users with few interactions without a validation target, so that what
    is chosen there suits heavy users. Where few edges can be spared, take a larger share from a
    part of the users: ``val=0.2, val_users=0.1`` holds out as many as ``val=0.02``, of users of
    all kinds.

    Args:
        val: Fraction of validation targets.
        test: Fraction of test targets.
        seed: Seed of the split. The global random state is not touched.
        val_users: Fraction of the users who have validation targets, at random.

    Raises:
        TypeError: If the graph is not a ``HeteroData``.
        ValueError: If the fractions are negative or sum to 1 or more, ``val_users`` is not in
            0..1, 0 excluded, or the graph is not a user-item graph, has no edges, or has repeated
            edges.

    Example:
        >>> from pyg_kd.datasets import from_interactions
        >>> from pyg_kd.transforms import UserSplit
        >>> data = from_interactions([[0] * 10 + [1], [*range(10), 3]])
        >>> train, val, test = UserSplit(val=0.1, test=0.2)(data)
        >>> test["user", "item"].edge_index.shape, test["user", "item"].edge_label_index.shape
        (torch.Size([2, 9]), torch.Size([2, 2]))
    """

    def __init__(
        self, val: float = 0.1, test: float = 0.1, seed: int = 0, *, val_users: float = 1.0
    ) -> None:
        check_fractions(val, test)
        if not 0 < val_users <= 1:
            raise ValueError(f"'val_users' must lie in 0..1, 0 excluded (got {val_users})")
        self.val, self.test, self.seed, self.val_users = val, test, seed, val_users

    def forward(self, data: HeteroData) -> Split:
        """Split ``data``."""
        edge_index, num_users = checked_edges(data)
        user = edge_index[0]
        degree = torch.bincount(user, minlength=num_users)
        test = 0.0 if has_targets(data) else self.test
        num_test = _rounded(degree, test).minimum(degree - 1)
        num_val = _rounded(degree, self.val).minimum(degree - 1 - num_test)
        if self.val_users < 1:
            num_val[self._without_targets(num_users).to(num_val.device)] = 0
        return split_graph(data, held_out(user, num_val, num_test, self.seed))

    def _without_targets(self, num_users: int) -> Tensor:
        """The users without validation targets, int64."""
        # On the CPU, so that a seed means the same users on every device.
        generator = torch.Generator("cpu").manual_seed(self.seed)
        order = torch.randperm(num_users, generator=generator, device="cpu")
        return order[max(round(self.val_users * num_users), 1) :]

    def __repr__(self) -> str:
        part = "" if self.val_users == 1 else f", val_users={self.val_users}"
        return f"UserSplit(val={self.val}, test={self.test}, seed={self.seed}{part})"


def _rounded(degree: Tensor, fraction: float) -> Tensor:
    # The last term undoes the rounding of the product: 50 * 0.29 is just below 14.5.
    return (degree.double() * fraction + 0.5 + 1e-9).long()
