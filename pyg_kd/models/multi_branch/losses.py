"""The objectives of the branches, all computed from one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch_geometric.data import HeteroData

from pyg_kd.functional.losses import bpr_loss, multinomial_loss
from pyg_kd.functional.sparse import CSR, gather_rows
from pyg_kd.graph import Neighbors, interactions
from pyg_kd.typing import Batch

#: Losses summed over triples, of positive scores ``[B, 1]`` and negative scores ``[B, N]``.
PAIRED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bpr": lambda p, n: bpr_loss(p.squeeze(1), n),
    "cml": lambda p, n: (1 - p + n).relu().sum(),
    "bce": lambda p, n: softplus(-p).sum() + softplus(n).sum(),
    "mse": lambda p, n: (1 - p).square().sum() + n.square().sum(),
}


class Observed(NamedTuple):
    """The interactions of a graph, by user and by item, and how many an epoch visits."""

    by_user: CSR
    by_item: CSR
    num_visits: int

    @classmethod
    def of(cls, data: HeteroData) -> Observed:
        """The interactions of ``data``. A repeated one counts once, and is visited each time."""
        edges = interactions(data)
        return cls(_csr(edges.by_user()), _csr(edges.by_item()), edges.edge_index.size(1))


def _csr(seen: Neighbors) -> CSR:
    return CSR.of(seen, torch.ones_like(seen.col, dtype=torch.float32))


def branch_losses(
    names: Sequence[str],
    vectors: Sequence[tuple[Tensor, Tensor]],
    batch: Batch,
    observed: Observed,
    *,
    with_negatives: bool = False,
) -> Tensor:
    r"""The objective of each head, summed over the batch.

    Args:
        names: The heads, named after their objectives.
        vectors: For each head, its vectors of the batch's unique users and items; of all items
            for ``"multinomial"``, and of all users for ``"item_multinomial"``.
        batch: The triples.
        observed: The interactions of the training graph.
        with_negatives: Sum ``"item_multinomial"`` over the unique negatives too.

    Returns:
        The losses, floating point ``[len(names)]``.
    """
    user_at = torch.searchsorted(batch.unique_users, batch.user.contiguous())
    item_at = torch.searchsorted(batch.unique_items, batch.candidates)
    losses = []
    for name, (x_user, x_item) in zip(names, vectors, strict=True):
        if name in PAIRED:
            user, item = gather_rows(x_user, user_at).unsqueeze(1), gather_rows(x_item, item_at)
            if name == "cml":  # noqa: SIM108
                scores = -(user - item).square().sum(2)
            else:
                scores = (user * item).sum(2)
            losses.append(PAIRED[name](scores[:, :1], scores[:, 1:]))
        elif name == "multinomial":
            losses.append(multinomial_loss(x_user, x_item, batch.unique_users, observed.by_user))
        else:
            rows = batch.unique_items if with_negatives else batch.unique_positives
            x = gather_rows(x_item, torch.searchsorted(batch.unique_items, rows))
            losses.append(multinomial_loss(x, x_user, rows, observed.by_item))
    return torch.stack(losses)
