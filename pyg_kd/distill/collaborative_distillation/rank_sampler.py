"""Drawing unseen items by their rank: the ranks first, which need no score, then their items."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor

from pyg_kd.functional.sampling import row_blocks
from pyg_kd.functional.sparse import keep_float32, require_one_device
from pyg_kd.graph import Neighbors
from pyg_kd.typing import ITEM, USER, XDict

#: Scores, or numbers drawn, that exist at once.
BLOCK_ENTRIES = 2**18

#: Up to this many leading ranks get a key each; among more, repeated draws are rare.
MAX_RACE = 4096

#: Mean number of scores in a bucket, the unit that is sorted or left alone.
BUCKET_SIZE = 8


class RankSampler(torch.nn.Module):
    r"""Distinct unseen items of every user, the better ranked the more likely.

    They are drawn one after another, each among those that are left, with

    .. math::
        p_{ui} \propto \exp(-\mathit{decay} \cdot \mathrm{rank}_u(i) / |I|)

    and ranks from 0 by the inner products of users and items, equal scores in random order. As
    :math:`p` depends on the rank alone, ranks are drawn first, exactly. With ``num_candidates`` the
    items at these ranks are estimated among that many, which are equally likely and shared by a
    block of users: of :math:`c_u` unseen candidates the one at place :math:`j` has an expected
    rank of :math:`(j + 1) (n_u + 1) / (c_u + 1) - 1` among :math:`n_u` unseen items. Nothing has
    users times items entries.

    Args:
        seen: The items a user gets none of.
        num_items: Size of the catalogue :math:`|I|`.
        num_candidates: Items that are ranked for a user. All of them by default.
    """

    ptr: Tensor
    col: Tensor

    def __init__(self, seen: Neighbors, num_items: int, num_candidates: int | None = None) -> None:
        super().__init__()
        self.num_items = num_items
        self.width = min(num_items if num_candidates is None else num_candidates, num_items)
        # A Module so that the owner's `.to()` moves its buffers.
        self.register_buffer("ptr", seen.ptr, persistent=False)
        self.register_buffer("col", seen.col, persistent=False)

    @torch.no_grad()
    def draw(self, x_dict: XDict, num: int, *, decay: float) -> Tensor:
        r"""Draw for all users.

        Args:
            x_dict: Representations to rank by, ``[U, d]`` and ``[I, d]``.
            num: Number of items.
            decay: Steepness; the best share ``1 / decay`` of the catalogue is likely.

        Returns:
            Item ids, int32 ``[U, min(num, num_candidates, I)]``, padded with -1.
        """
        num, rate = min(num, self.width), decay / self.num_items
        drawn: Tensor = draw_by_rank(
            x_dict[USER], x_dict[ITEM], self.ptr, self.col, num, rate, self.width
        )
        return drawn


# Its intermediate shapes depend on values: an opaque custom op.
@torch.library.custom_op("pyg_kd::draw_by_rank", mutates_args=())
def draw_by_rank(
    x_user: Tensor, x_item: Tensor, ptr: Tensor, col: Tensor, num: int, rate: float, width: int
) -> Tensor:
    """Items of every user, int32 ``[U, num]``, with ``p`` falling by ``rate`` a rank."""
    x_user, x_item = (torch.nan_to_num(x, 0.0, 0.0, 0.0) for x in (x_user, x_item))
    # Renumbered, so that items of equal scores come in random order.
    item = torch.randperm(len(x_item), device=ptr.device)
    seen = Neighbors(ptr, item.argsort()[col])
    ranks = draw_ranks(len(item) - seen.degree, num, rate)
    blocks = row_blocks(len(ranks), width, BLOCK_ENTRIES, ptr.device)
    x_item = x_item[item]
    drawn = [_items(x_user[rows], x_item, seen, rows, ranks[rows], width) for rows in blocks]
    found = torch.cat(drawn) if drawn else ranks
    return torch.where(found < 0, -1, item[found.clamp(min=0)]).to(torch.int32)


def _items(
    x_user: Tensor, x_item: Tensor, seen: Neighbors, users: Tensor, ranks: Tensor, width: int
) -> Tensor:
    """The items at the ``ranks`` of some users, or those estimated among ``width`` candidates."""
    row, hidden = seen.of(users)
    candidates = None
    if width < len(x_item):
        candidates = _candidates(len(x_item), width, hidden.device)
        place = hidden.new_full((len(x_item),), -1)
        place[candidates] = torch.arange(width, device=hidden.device)
        hidden = place[hidden]
        row, hidden = row[hidden >= 0], hidden[hidden >= 0]
        left = width - torch.bincount(row, minlength=len(users))
        ranks = _scaled(ranks, len(x_item) - seen.degree[users], left)
        x_item = x_item[candidates]
    found = _at_ranks(x_user @ x_item.t(), row, hidden, ranks.clamp(min=0))
    found = found if candidates is None else candidates[found]
    return found.masked_fill(ranks < 0, -1)


@draw_by_rank.register_fake
def _(
    x_user: Tensor, x_item: Tensor, ptr: Tensor, col: Tensor, num: int, rate: float, width: int
) -> Tensor:
    require_one_device(x_user, x_item, ptr, col)
    return ptr.new_empty((ptr.numel() - 1, num), dtype=torch.int32)


keep_float32("pyg_kd::draw_by_rank")


def draw_ranks(size: Tensor, num: int, rate: float) -> Tensor:
    r"""Draw distinct ranks one after another, with :math:`p(r) \propto e^{-\mathit{rate} \, r}`.

    Args:
        size: Number of ranks of each row, int64 ``[n]``.
        num: Ranks to draw.
        rate: Positive.

    Returns:
        int64 ``[n, num]``, ascending, with -1 behind the ranks of a row with fewer.
    """
    # Ranks further than 40 / rate behind the best `num` share e^-40 of the remaining weight.
    reach = size.clamp(max=num + ceil(min(40 / rate, 2**62)))
    ranks, race = size.new_empty(len(size), num), reach <= max(MAX_RACE, 64 * num)
    some = race.nonzero().squeeze(1)
    width = int(reach[some].max()) if some.numel() else 0
    for block in row_blocks(len(some), width, BLOCK_ENTRIES, size.device):
        ranks[some[block]] = _race(reach[some[block]], width, num, rate)
    some = (~race).nonzero().squeeze(1)
    ranks[some] = _until_distinct(size[some], num, rate)
    return ranks


def _race(size: Tensor, width: int, num: int, rate: float) -> Tensor:
    """Draw ranks below ``size``: those with the largest log-weights plus Gumbel noise."""
    place = torch.arange(width, device=size.device)
    noise = torch.empty(len(size), width, device=size.device).exponential_()
    key = noise.clamp_(min=torch.finfo(noise.dtype).tiny).log_().neg_().sub_(rate * place)
    key.masked_fill_(place >= size.unsqueeze(1), -torch.inf)
    key, rank = key.topk(min(num, width), dim=1, sorted=False)
    rank = torch.where(key == -torch.inf, width, rank).sort(dim=1).values
    rank = torch.where(rank == width, -1, rank)
    return torch.nn.functional.pad(rank, (0, num - rank.size(1)), value=-1)


def _until_distinct(size: Tensor, num: int, rate: float) -> Tensor:
    """Draw by the inverse of the distribution until ``num`` ranks are distinct."""
    drawn = size.new_empty(len(size), 0)
    while True:
        uniform = torch.rand(len(size), 2 * num + 32, dtype=torch.double, device=size.device)
        rank = torch.log1p(uniform * torch.expm1(-rate * size.unsqueeze(1))).div_(-rate).long()
        drawn = torch.cat([drawn, rank.clamp_(max=size.unsqueeze(1) - 1)], dim=1)
        value, order = drawn.sort(dim=1, stable=True)
        new = torch.ones_like(value, dtype=torch.bool)
        new[:, 1:] = value[:, 1:] != value[:, :-1]
        new = torch.empty_like(new).scatter_(1, order, new)
        new &= new.cumsum(1) <= num
        if bool((new.sum(1) == num).all()):
            return drawn.masked_fill_(~new, 2**62).sort(dim=1).values[:, :num]


def _candidates(num_items: int, width: int, device: torch.device) -> Tensor:
    """One item from each of ``width`` ranges of ids, rotated so that all are equally likely."""
    edge = torch.arange(width + 1, device=device) * num_items // width
    draw = torch.rand(width + 1, dtype=torch.double, device=device)
    inside = (draw[1:] * edge.diff()).long()
    return (edge[:-1] + inside + (draw[:1] * num_items).long()) % num_items


def _scaled(ranks: Tensor, size: Tensor, left: Tensor) -> Tensor:
    """Distinct places among ``left`` candidates for ascending ranks among ``size`` items."""
    size, left = size.unsqueeze(1), left.unsqueeze(1)
    count = (ranks >= 0).sum(1, keepdim=True).clamp(max=left)
    step = torch.arange(ranks.size(1), device=ranks.device)
    # The place whose expected rank this is, rounded at random. Places taken twice are moved apart,
    # towards the worse in half of the rows and towards the better in the others.
    place = (ranks + 1).double() * (left + 1) / (size + 1) - 1
    place = (place + torch.rand_like(place)).floor().long()
    ahead = step + (place - step).cummax(1).values
    back = torch.where(step < count, place - step, 2**40).flip(1).cummin(1).values.flip(1) + step
    place = torch.where(torch.rand(size.shape, device=size.device) < 0.5, ahead, back)
    place = place.maximum(step).minimum(left - count + step)
    return torch.where(step < count, place, -1)


def _at_ranks(scores: Tensor, row: Tensor, col: Tensor, ranks: Tensor) -> Tensor:
    """The columns at some ranks of every row; the entries ``[row, col]`` have none.

    Scores are counted in buckets of equal width, and only the buckets asked for are sorted.

    Args:
        scores: ``[n, m]``.
        row: Rows of the entries without a rank, int64 ``[e]``.
        col: Their columns, int64 ``[e]``.
        ranks: From 0, int64 ``[n, k]``; for a row that has no ranks 0.
    """
    (n, m), last = scores.shape, max(scores.size(1) // BUCKET_SIZE, 1)
    top, low = scores.amax(1, keepdim=True), scores.amin(1, keepdim=True)
    scale = ((last - 1) / (top - low)).clamp(max=torch.finfo(scores.dtype).max)
    bucket = (top - scores).mul_(scale).to(torch.int32).clamp_(0, last - 1)
    bucket[row, col] = last
    bucket += (last + 1) * torch.arange(n, dtype=torch.int32, device=bucket.device).unsqueeze(1)
    count = torch.bincount(bucket.view(-1), minlength=n * (last + 1)).view(n, last + 1)
    upto = count.cumsum(1)
    wanted = torch.searchsorted(upto, ranks, right=True)
    sorts = torch.zeros_like(count, dtype=torch.bool).scatter_(1, wanted, True)
    entry = sorts.view(-1).index_select(0, bucket.view(-1)).nonzero().squeeze(1)
    taken = count * sorts
    taken_upto = taken.cumsum(1)
    place = ranks + ((taken_upto - taken) - (upto - count)).gather(1, wanted)
    # Entries to sort, packed to the left.
    length = taken_upto[:, -1]
    owner = torch.repeat_interleave(length)
    start, width = length.cumsum(0) - length, int(length.max())
    at = owner * width + torch.arange(len(entry), device=entry.device) - start[owner]
    value = scores.new_full((n * width,), -torch.inf)
    ids = entry.new_zeros(n * width)
    value[at], ids[at] = scores.view(-1)[entry], entry - owner * m
    order = value.view(n, width).sort(dim=1, descending=True, stable=True).indices
    found: Tensor = ids.view(n, width).gather(1, order.gather(1, place))
    return found
