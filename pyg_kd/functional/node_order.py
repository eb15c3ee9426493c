"""An order of the nodes in which products with the adjacency find what they read in the caches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor

from pyg_kd.functional.neighbor_sampling import OTHER
from pyg_kd.functional.sparse import CSR, some_rows
from pyg_kd.typing import ITEM, USER

#: Into how many pieces the order is cut, of which the first and the last follow each other, then
#: the second and the last but one, and so on: degrees grow along the order, and the kernel gives
#: each of several threads the same number of rows.
PIECES = 8

#: The matrices that gather rows into those of a node type.
Blocks = dict[str, CSR]


class OrderedAdjacency(NamedTuple):
    r"""The adjacency as matrices that lead into another order of the nodes, stay in it, and lead
    out of it again.

    A product reads the rows of each node's neighbours. Where nodes with common neighbours follow
    each other, these rows are still in the caches. Entries of a row are summed in the same order
    as before, to the same bits, and no table is ever reordered.
    """

    plain: Blocks
    into: Blocks
    within: Blocks
    out: Blocks
    #: Where each node is in that order, int64 ``[n]``.
    place: dict[str, Tensor]


def ordered_adjacency(blocks: Blocks) -> OrderedAdjacency:
    """The adjacency and its `reverse Cuthill-McKee order <https://doi.org/10.1145/800195.805928>`_.

    On Gowalla a product takes a sixth less time in it, on one thread and on two.

    Args:
        blocks: The adjacency, on the CPU.

    Example:
        >>> block = CSR(torch.tensor([0, 1]).int(), torch.tensor([0]).int(), torch.ones(1))
        >>> ordered_adjacency({"user": block, "item": block}).place
        {'user': tensor([0]), 'item': tensor([0])}
    """
    order = _order(blocks)
    place = {kind: torch.argsort(ids) for kind, ids in order.items()}
    into = {kind: some_rows(block, order[kind]) for kind, block in blocks.items()}
    return OrderedAdjacency(
        blocks, into, _renumbered(into, place), _renumbered(blocks, place), place
    )


def _renumbered(blocks: Blocks, place: dict[str, Tensor]) -> Blocks:
    return {
        kind: block._replace(col=place[OTHER[kind]].to(torch.int32).index_select(0, block.col))
        for kind, block in blocks.items()
    }


def _order(blocks: Blocks) -> dict[str, Tensor]:
    """The users and the items in that order, int64."""
    user, item = ((blocks[kind].ptr.numpy(), blocks[kind].col.numpy()) for kind in (USER, ITEM))
    num_users, num_edges = len(user[0]) - 1, user[0][-1]
    ptr = np.concatenate([user[0], num_edges + item[0][1:]])
    col = np.concatenate([user[1] + np.int32(num_users), item[1]])
    size = len(ptr) - 1
    graph = csr_array((np.ones(len(col), dtype=np.int8), col, ptr), shape=(size, size))
    order = reverse_cuthill_mckee(graph, symmetric_mode=True)
    of_user = order < num_users
    found = {USER: _paired(order[of_user]), ITEM: _paired(order[~of_user] - num_users)}
    device = blocks[USER].ptr.device
    return {
        kind: torch.as_tensor(ids, dtype=torch.long, device=device) for kind, ids in found.items()
    }


def _paired(ids: NDArray[np.int32]) -> NDArray[np.int32]:
    pieces = np.array_split(ids, PIECES)
    halves = zip(pieces[: PIECES // 2], pieces[::-1], strict=False)
    return np.concatenate([piece for pair in halves for piece in pair])
