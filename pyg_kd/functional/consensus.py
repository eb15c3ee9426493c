"""The heads of a model, and what several rankers agree on, from their lists alone."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from pyg_kd.functional.ranking import stable_topk
from pyg_kd.functional.ranks import rank_in, total_by_item
from pyg_kd.functional.sparse import keep_float32, require_one_device

#: Listed items processed at once.
BLOCK_ENTRIES = 2**21


def consensus(
    lists: Tensor,
    num_listed: int,
    *,
    newest: int = 0,
    temperature: float = 10.0,
    deviation: float | None = 100.0,
    num_counted: int | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The items that rankers put first, by how high and how steadily.

    .. math::
        c_{ui} = \sum_{x:\, i \in L_x(u)} \left[ e^{-r_x(u, i) / T}
        + e^{-\operatorname{std}_x(u, i) / S} \right]

    over the rankers :math:`x` on whose newest list :math:`L_x(u)` the item is, at place
    :math:`r` from 0. The standard deviation, that of a population, is taken over the places of
    the item on all lists of the ranker; on a list that it is missing from, its place is the
    length of the list. The order is by :math:`c`, and among equals by item.

    It works by sorting, in blocks of users: memory is that of the lists.

    Args:
        lists: Item ids, best first, int32 ``[W, H, U, K]`` for ``W`` times and ``H`` rankers,
            padded with -1.
        num_listed: Length of the result.
        newest: Which of the ``W`` times is the newest.
        temperature: :math:`T`, in places.
        deviation: :math:`S`, in places; ``None`` leaves the second term out, and infinity makes
            it one.
        num_counted: The deviation is that over the first so many times. All by default.

    Returns:
        Item ids, int32 ``[U, num_listed]``, padded with -1, and :math:`c`, float32 of the
        same shape, 0 at the padding.

    Example:
        >>> lists = torch.tensor([[[[5, 7]], [[7, 9]]]], dtype=torch.int32)
        >>> items, scores = consensus(lists, 2, temperature=1.0, deviation=None)
        >>> items, scores
        (tensor([[7, 5]], dtype=torch.int32), tensor([[1.3679, 1.0000]]))
    """
    out: tuple[Tensor, Tensor] = consensus_lists(
        lists, num_listed, newest, temperature, deviation, num_counted
    )
    return out


# Data-dependent shapes, since the number of ties varies: an opaque custom op.
@torch.library.custom_op("pyg_kd::consensus_lists", mutates_args=())
def consensus_lists(
    lists: Tensor,
    num_listed: int,
    newest: int,
    temperature: float,
    deviation: float | None,
    num_counted: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Operator of :func:`consensus`."""
    _, num_heads, num_users, length = lists.shape
    items = lists.new_empty(num_users, num_listed)
    scores = torch.empty(num_users, num_listed, device=lists.device)
    decay = torch.arange(length, device=lists.device).div(-temperature).exp()
    for start in range(0, num_users, max(BLOCK_ENTRIES // (num_heads * length), 1)):
        rows = slice(start, start + max(BLOCK_ENTRIES // (num_heads * length), 1))
        block = lists[:, :, rows]
        value = decay.expand(block.shape[1:])
        if deviation is not None:
            value = value + place_deviation(block, newest, num_counted).div_(-deviation).exp_()
        items[rows], scores[rows] = _agreed(block[newest], value, num_listed)
    return items, scores


@consensus_lists.register_fake
def _(
    lists: Tensor,
    num_listed: int,
    newest: int,
    temperature: float,
    deviation: float | None,
    num_counted: int | None = None,
) -> tuple[Tensor, Tensor]:
    require_one_device(lists)
    items = lists.new_empty(lists.size(2), num_listed)
    return items, items.new_empty(items.shape, dtype=torch.float32)


keep_float32("pyg_kd::consensus_lists")


def place_deviation(lists: Tensor, newest: int, num_counted: int | None = None) -> Tensor:
    """Standard deviation of the places of the newest items over the times, ``[H, b, K]``."""
    now, length = lists[newest], lists.size(3)
    window = len(lists) if num_counted is None else num_counted
    own = torch.arange(length, device=lists.device).expand(now.shape)
    total, square = torch.zeros_like(own), torch.zeros_like(own)
    for time in range(window):
        place = own if time == newest else rank_in(now, lists[time])
        total = total + place
        square = square + place.square()
    # In integers, so that the deviation of an item that never moves is exactly zero.
    return (window * square - total.square()).float().sqrt_().div_(window)


def _agreed(items: Tensor, value: Tensor, num_listed: int) -> tuple[Tensor, Tensor]:
    """Values added up by item, and the best: ``[H, b, K]`` to ``[b, num_listed]``."""
    num_heads = items.size(0)
    items, value = (x.transpose(0, 1).flatten(1) for x in (items, value))
    items, order = items.sort(dim=1, stable=True)
    total = total_by_item(items, value.gather(1, order), num_heads)
    best, at = stable_topk(total, num_listed)
    items = items.gather(1, at).masked_fill_(best == -torch.inf, -1)
    best = best.masked_fill(best == -torch.inf, 0.0)
    missing = num_listed - items.size(1)
    if missing > 0:
        items = torch.nn.functional.pad(items, (0, missing), value=-1)
        best = torch.nn.functional.pad(best, (0, missing))
    return items, best


#: The score of a head: an inner product, or a negative squared distance.
Kind = Literal["inner", "distance"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Head(NamedTuple):
    r"""The columns of one head in the representations of users and items.

    Args:
        name: What the head is called.
        start: Its first column.
        stop: The column after its last.
        kind: ``"inner"`` for the score :math:`\langle x_u, x_i \rangle`, ``"distance"`` for
            :math:`-\|x_u - x_i\|^2`.

    Example:
        >>> head = Head("cml", 0, 2, "distance")
        >>> x_user, x_item = head.vectors(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
        >>> x_user @ x_item.t()
        tensor([[-5.]])
    """

    name: str
    start: int
    stop: int
    kind: Kind = "inner"

    def vectors(self, x_user: Tensor, x_item: Tensor) -> tuple[Tensor, Tensor]:
        r"""Vectors of users and items whose inner products are the scores of the head.

        A distance takes two extra columns:
        :math:`-\|u - i\|^2 = \langle (2u, -\|u\|^2, -1), (i, 1, \|i\|^2) \rangle`.

        Args:
            x_user: Representations with all heads, ``[U, d]``.
            x_item: ``[I, d]``.
        """
        user, item = x_user[:, self.start : self.stop], x_item[:, self.start : self.stop]
        if self.kind == "inner":
            return user, item
        user_square, item_square = (x.square().sum(1, keepdim=True) for x in (user, item))
        minus_one, one = -torch.ones_like(user_square), torch.ones_like(item_square)
        return (
            torch.cat([2 * user, -user_square, minus_one], 1),
            torch.cat([item, one, item_square], 1),
        )
