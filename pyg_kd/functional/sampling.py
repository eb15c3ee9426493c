"""Drawing unseen items and places of lists: exact, vectorised, without rejection."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pyg_kd.functional.operators import operator, shapes_of
from pyg_kd.graph import Neighbors, on_numpy

#: Seen items that are numbered at once.
BLOCK_ENTRIES = 2**17

#: Searches from which on it pays to sort them first, whatever the number of keys.
SORTED_SEARCHES = 2**13


class UnseenItems(torch.nn.Module):
    r"""The items outside ``seen`` of every user, numbered in ascending order.

    With :math:`s_0 < s_1 < \dots` the seen items of a user, the ``r``-th
    unseen one is :math:`r + j` for the number ``j`` of seen items with
    :math:`s_j - j \leq r`. One ascending key over all users makes ``j`` a
    single binary search.

    Args:
        seen: Excluded items of every user.
        num_items: Size of the catalogue.
    """

    ptr: Tensor
    key: Tensor
    num_left: Tensor

    def __init__(self, seen: Neighbors, num_items: int) -> None:
        super().__init__()
        self.stride = num_items + 1
        # A Module so that the owner's `.to()` moves its buffers.
        self.register_buffer("ptr", seen.ptr, persistent=False)
        self.register_buffer("key", self._keys(seen), persistent=False)
        self.register_buffer("num_left", num_items - seen.degree, persistent=False)

    def _keys(self, seen: Neighbors) -> Tensor:
        num_rows, device = seen.ptr.numel() - 1, seen.col.device
        # Half the memory where 32 bits suffice: what is excluded may include whole rankings.
        small = num_rows * self.stride < 2**31
        key = seen.col.new_empty(seen.col.numel(), dtype=torch.int32 if small else torch.int64)
        step = max(num_rows * BLOCK_ENTRIES // max(key.numel(), 1), 1)
        for first in range(0, num_rows, step):
            ptr = seen.ptr[first : first + step + 1]
            start, stop = int(ptr[0]), int(ptr[-1])
            row = torch.arange(first, first + len(ptr) - 1, device=device)
            # Minus its place on the row's list, so plus where the list starts.
            shift = (row * self.stride + ptr[:-1]).repeat_interleave(
                ptr.diff(), output_size=stop - start
            )
            entry = torch.arange(start, stop, device=device)
            key[start:stop] = shift + seen.col[start:stop] - entry
        return key

    def at(self, user: Tensor, rank: Tensor) -> Tensor:
        """The unseen item at place ``rank`` (from 0) of ``user``; the two broadcast."""
        key = (user * self.stride + rank).to(self.key.dtype)
        # Several times as fast as indexing.
        start = self.ptr.index_select(0, user.flatten()).view(user.shape)
        return rank + _search(self.key, key) - start

    def sample(
        self,
        user: Tensor,
        num: int,
        *,
        replace: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See :func:`sample_unseen`."""
        left = self.num_left.index_select(0, user)
        if replace and user.numel() and not left.is_meta and int(left.min()) <= 0:
            raise ValueError(f"user {int(user[left.argmin()])} has seen every item")
        rank = draw_ranks(left, num, replace, generator)
        return torch.where(rank < 0, -1, self.at(user.unsqueeze(1), rank))


def _search(keys: Tensor, wanted: Tensor) -> Tensor:
    """How many of the ascending ``keys`` are not above each of ``wanted``, in its shape."""
    if not on_numpy(wanted) or wanted.numel() < SORTED_SEARCHES or _about_ascending(wanted):
        return torch.searchsorted(keys, wanted, right=True)
    # In about ascending order, each search takes the turns of the one before it, in memory that was
    # just read: half of the time if the keys are in a cache, a third if they aren't. Numbers of 16
    # bits are sorted in linear time.
    flat = wanted.flatten()
    coarse = (flat.numpy() * (65_535 / max(float(flat.max()), 1.0))).astype(np.uint16)
    order = torch.from_numpy(coarse.argsort(kind="stable"))
    ordered = torch.searchsorted(keys, flat.index_select(0, order), right=True)
    found = torch.empty_like(order)
    found.numpy()[order.numpy()] = ordered.numpy()
    return found.view(wanted.shape)


def _about_ascending(x: Tensor) -> bool:
    """Whether few entries are below the one before them."""
    flat = x.numpy().ravel()
    return int(np.count_nonzero(flat[1:] < flat[:-1])) < len(flat) // 8


def sample_unseen(
    user: Tensor,
    seen: Neighbors,
    num_items: int,
    num: int,
    *,
    replace: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Draw items uniformly among those outside ``seen`` of each user.

    Args:
        user: User ids, int64 ``[n]``; they may repeat.
        seen: Excluded items of every user.
        num_items: Size of the catalogue.
        num: Items to draw for each entry of ``user``.
        replace: Draw with replacement (default). Without, every set of
            ``num`` items is equally likely, and rows of users with fewer
            unseen items are padded with -1.
        generator: Random state; PyTorch's global one by default.

    Returns:
        Item ids, int64 ``[n, num]``.

    Raises:
        ValueError: With replacement, if a user has seen the whole catalogue.

    Example:
        >>> seen = Neighbors(ptr=torch.tensor([0, 2]), col=torch.tensor([0, 2]))
        >>> sample_unseen(torch.tensor([0]), seen, num_items=4, num=2, replace=False).sort().values
        tensor([[1, 3]])
    """
    unseen = UnseenItems(seen, num_items)
    return unseen.sample(user, num, replace=replace, generator=generator)


def draw_ranks(left: Tensor, num: int, replace: bool, generator: torch.Generator | None) -> Tensor:
    """Uniform integers below ``left``, ``[n, num]``; distinct within a row on request."""
    if not replace and on_numpy(left):
        return _subsets(left, num, generator)
    draw = _uniform(left, num, generator)
    return (draw * left.unsqueeze(1)).long() if replace else _floyd(left, draw)


def _uniform(left: Tensor, num: int, generator: torch.Generator | None) -> Tensor:
    shape = (left.numel(), num)
    return torch.rand(shape, dtype=torch.double, device=left.device, generator=generator)


def _subsets(left: Tensor, num: int, generator: torch.Generator | None) -> Tensor:
    """As :func:`_floyd`, in a tenth of the time where repetitions are rare.

    Draws with replacement that happen to be distinct are a uniform set already; the other rows
    are drawn afresh.
    """
    rank = (_uniform(left, num, generator) * left.unsqueeze(1)).long()
    rank.numpy().sort(1)
    repeated = (rank[:, 1:] == rank[:, :-1]).any(1) | (left < num)
    again = repeated.nonzero().squeeze(1)
    if len(again):
        rank[again] = _floyd(left[again], _uniform(left[again], num, generator))
    return rank


def _floyd(left: Tensor, draw: Tensor) -> Tensor:
    """Distinct integers below ``left``, ``[n, num]``, -1 for what is missing, from uniform draws.

    Floyd's algorithm on all rows at once: step j takes from 0..left - num + j, and a number drawn
    before gives way to the largest. Short rows start at their own step.
    """
    num = draw.size(1)
    rank = torch.full(draw.shape, -1, dtype=torch.long, device=left.device)
    for j in range(num):
        top = left - num + j
        value = (draw[:, j] * (top + 1)).long()
        value = torch.where((rank == value.unsqueeze(1)).any(1), top, value)
        rank[:, j] = torch.where(top >= 0, value, -1)
    return rank


def draw_places(padding: Tensor, num: int, temperature: float) -> Tensor:
    r"""Draw places of lists without replacement, with :math:`p(r) \propto e^{-r / T}`.

    Args:
        padding: Places that hold nothing, bool ``[n, N]``: drawn only when nothing else is left.
        num: Places to draw for each list.
        temperature: :math:`T`, in places.

    Returns:
        int64 ``[n, num]``, in no order.
    """
    rank = torch.arange(padding.size(1), device=padding.device)
    # The largest log-weights with Gumbel noise are a draw without replacement.
    noise = torch.empty(padding.shape, device=padding.device).exponential_()
    key = noise.log_().neg_().sub_(rank / temperature).masked_fill_(padding, -torch.inf)
    return key.topk(num, dim=1, sorted=False).indices


@operator("pyg_kd::distinct_ids")
def distinct_ids(ids: Tensor, size: int) -> Tensor:
    r"""The distinct ids below ``size``, ascending, int64 ``[n]``; -1 is padding.

    Marks a table of ``size`` entries, where ``unique`` sorts.

    Example:
        >>> distinct_ids(torch.tensor([[3, 0, -1], [0, 3, 1]]), 5)
        tensor([0, 1, 3])
    """
    # Padding, -1, marks the entry after the last.
    found = torch.zeros(size + 1, dtype=torch.bool, device=ids.device)
    found.index_fill_(0, ids.flatten().long(), True)
    return found[:size].nonzero().squeeze(1)


@shapes_of("pyg_kd::distinct_ids")
def _(ids: Tensor, size: int) -> Tensor:
    # Without values their number is unknown: the upper bound.
    return ids.new_empty(min(ids.numel(), size), dtype=torch.int64)


def row_blocks(num_rows: int, width: int, entries: int, device: torch.device) -> tuple[Tensor, ...]:
    """The row ids, int64, in blocks of at most ``entries`` entries, or of one row.

    Example:
        >>> row_blocks(3, 10, 25, torch.device("cpu"))
        (tensor([0, 1]), tensor([2]))
    """
    rows = torch.arange(num_rows, device=device)
    blocks: tuple[Tensor, ...] = rows.split(max(entries // max(width, 1), 1))
    return blocks
