"""The base class of closed-form models, whose representations are ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.index import index2ptr

from pyg_kd.checks import require_count
from pyg_kd.functional.sparse import CSR, row_matmul
from pyg_kd.graph import interactions
from pyg_kd.models.base import Recommender
from pyg_kd.typing import ITEM, USER, XDict

#: Users scored at once.
BLOCK_USERS = 256

#: Default rank where a matrix is too large to be inverted.
RANK = 256


class Fitted(Recommender):
    """A closed-form model, tied to the edges that it was computed from.

    Scores are not inner products of narrow vectors: representations are the ids of users and
    items, int64 ``[U, 1]`` and ``[I, 1]``. A subclass registers its edges by
    :func:`hold_pattern`, or overrides :attr:`observed`, and implements :meth:`score_block`.
    """

    inner_product: ClassVar[bool] = False
    latent: ClassVar[bool] = False
    trainable: ClassVar[bool] = False
    #: By which side the edges of :attr:`observed` are sorted.
    observed_side: str = USER

    @property
    def observed(self) -> CSR:
        """The edges of the graph that the model was fitted to, by :attr:`observed_side`."""
        return pattern(self, self.observed_side)

    @property
    def out_dim(self) -> int:
        """1, the width of an id."""
        return 1

    def forward(self, data: HeteroData) -> XDict:
        """The ids of users and items, after checking that the edges are the fitted ones."""
        self.cached(data, self._check_edges)
        sizes, device = (self.num_users, self.num_items), self.observed.col.device
        users, items = (torch.arange(size, device=device).unsqueeze(1) for size in sizes)
        return {USER: users, ITEM: items}

    def _check_edges(self, data: HeteroData) -> None:
        edges, observed = interactions(data), self.observed
        ptr, col = edges.by_user() if self.observed_side == USER else edges.by_item()
        same = torch.equal(ptr, observed.ptr.long()) and torch.equal(col, observed.col.long())
        if not same:
            raise ValueError(
                "'data' has other edges than the graph that the model was fitted to: fit a new one"
            )

    def score(self, x_dict: XDict, edge_index: Tensor) -> Tensor:
        """Scores of user-item pairs, ``[E]``, picked from blocks of users and their items."""
        user, order = edge_index[0].sort(stable=True)
        item = edge_index[1][order]
        users, place = user.unique_consecutive(return_inverse=True)
        # This empty block is the result if there are no pairs.
        parts = [self.score_block(x_dict[USER][:0], x_dict[ITEM][:0]).flatten()]
        for start in range(0, len(users), BLOCK_USERS):
            inside = (place >= start) & (place < start + BLOCK_USERS)
            items, column = item[inside].unique(return_inverse=True)
            rows = users[start : start + BLOCK_USERS]
            block = self.score_block(x_dict[USER][rows], x_dict[ITEM][items])
            parts.append(block[place[inside] - start, column])
        scores = torch.cat(parts)
        return torch.empty_like(scores).index_copy(0, order, scores)


def one_hot(index: Tensor, value: Tensor) -> Tensor:
    """A column for each ``i`` in ``index``, zero but for ``value[i]`` in row ``i``, ``[n, b]``."""
    signal = value.new_zeros(len(value), len(index))
    signal[index, torch.arange(len(index), device=index.device)] = value[index]
    return signal


def hold_pattern(model: Fitted, data: HeteroData, sides: Sequence[str] = (USER, ITEM)) -> None:
    """Register the interactions of a graph, by user, by item or both, as buffers of a model."""
    edges = interactions(data)
    for name in sides:
        side = edges.by_user() if name == USER else edges.by_item()
        model.register_buffer(f"{name}_ptr", side.ptr.to(torch.int32))
        model.register_buffer(f"{name}_col", side.col.to(torch.int32))
    ones = torch.ones(len(edges.by_user().col), device=edges.edge_index.device)
    model.register_buffer("ones", ones)


def drop_pattern(model: Fitted, side: str) -> None:
    """Keep the interactions of a model by the other side only."""
    for name in ("ptr", "col"):
        delattr(model, f"{side}_{name}")
    model.observed_side = ITEM if side == USER else USER


def pattern(model: Fitted, side: str) -> CSR:
    """The interactions that :func:`hold_pattern` registered, by ``"user"`` or by ``"item"``."""
    ptr, col, ones = (model.get_buffer(name) for name in (f"{side}_ptr", f"{side}_col", "ones"))
    return CSR(ptr, col, ones)


def hold_sparse(
    model: Fitted, name: str, row: Tensor, col: Tensor, value: Tensor, num_rows: int
) -> None:
    """Register a sparse matrix, given by its entries in any order, as buffers of a model."""
    row, order = row.sort(stable=True)
    model.register_buffer(f"{name}_ptr", index2ptr(row, num_rows).to(torch.int32))
    model.register_buffer(f"{name}_col", col[order].to(torch.int32))
    model.register_buffer(f"{name}_value", value[order])


def sparse(model: Fitted, name: str) -> CSR:
    """The sparse matrix that :func:`hold_sparse` registered."""
    return CSR(*(model.get_buffer(f"{name}_{part}") for part in CSR._fields))


def entity_of(rows: CSR) -> Tensor:
    """The row of every entry, int64."""
    return torch.repeat_interleave(rows.ptr.diff().long(), output_size=len(rows.col))


def by_entry(value: Tensor, rows: CSR) -> Tensor:
    """A value of every row beside its entries."""
    return value[entity_of(rows)]


def pattern_block(model: Fitted, users: Tensor, items: Tensor) -> Tensor:
    """Which of some users interacted with which of some items, ``[b, t]``."""
    ones = model.get_buffer("ones")
    if len(users) <= len(items):
        signal = one_hot(users, ones.new_ones(model.num_users))
        return row_matmul(pattern(model, ITEM), items, signal).t()
    signal = one_hot(items, ones.new_ones(model.num_items))
    return row_matmul(pattern(model, USER), users, signal)


def pattern_product(rows: CSR, index: Tensor, matrix: Tensor, columns: Tensor) -> Tensor:
    """Rows ``index`` of a sparse matrix times ``columns`` of a dense one."""
    if len(columns) < len(index):
        return row_matmul(rows, index, matrix[:, columns])
    return row_matmul(rows, index, matrix)[:, columns]


def rank_or_side(model: Fitted, rank: int | None, max_size: int) -> tuple[int | None, str]:
    """The rank of an approximation, ``None`` for an exact inverse, and the side with fewer
    entities.

    Raises:
        ValueError: If an option is out of range.
    """
    require_count(max_size=max_size)
    smaller = min(model.num_users, model.num_items)
    side = USER if model.num_users <= model.num_items else ITEM
    if rank is None:
        return (min(RANK, smaller) if smaller > max_size else None), side
    require_count(rank=rank)
    if rank > smaller:
        raise ValueError(
            f"'rank' must be at most {smaller}, the smaller number of users and of items "
            f"(got {rank})"
        )
    return int(rank), side
