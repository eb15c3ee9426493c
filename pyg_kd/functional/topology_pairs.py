"""Squared differences of pairs of cosines within groups, and their gradient, in one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_kd.functional.operators import operator, shapes_of
from pyg_kd.functional.precision import full_precision
from pyg_kd.functional.sparse import keep_float32, require_one_device

#: Rows and columns of the tile of cosines that is formed at once where pairs must be looked at.
PAIR_TILE = 512

#: Rows of a symmetric product that are computed at once on a CPU.
GRAM_BLOCK = 50

#: Rows of the teacher that are scaled to unit length at once on a CPU: they stay in its caches.
ROW_BLOCK = 1024


def unit_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows divided by their norms, and the norms, ``[n, 1]``.

    The norm of a row of zeros is infinite: it stays zero and gets no gradient.
    """
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    norm = norm.masked_fill(norm == 0, torch.inf)
    return x / norm, norm


def sum_all_pairs(student: Tensor, teacher: Tensor) -> Tensor:
    """Loss of the cosines of all pairs of rows, of any length."""
    out: Tensor = _AllPairs.apply(student, teacher)
    return out


class _AllPairs(torch.autograd.Function):
    """Value and gradient in one operator, whose parts would take longer to start than to run."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        value: Tensor
        value, grad = all_pairs(student, teacher)
        ctx.save_for_backward(grad)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad * ctx.saved_tensors[0], None


@operator("pyg_kd::all_pairs")
def all_pairs(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over pairs of rows of their cosines' squared difference, and its gradient."""
    s, norm = unit_rows(student)
    teacher, grad = teacher.to(s.dtype), torch.empty_like(s)
    if len(s) <= teacher.size(1):
        value = torch.stack([s.new_zeros(()), *_pairs(s, unit_rows(teacher)[0], False, grad)]).sum()
    else:
        value = _gram_by_blocks(s, teacher, grad)
    # What points along a row only changes its length, which no cosine sees.
    along = torch.linalg.vecdot(grad, s).unsqueeze(1)
    return value, grad.addcmul_(s, along, value=-1).mul_(-4 / norm)


@shapes_of("pyg_kd::all_pairs")
def _(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    require_one_device(student, teacher)
    return student.new_empty(()), torch.empty_like(student)


def sum_grouped_pairs(s: Tensor, t: Tensor, end: Tensor, positive_pairs_only: bool) -> Tensor:
    """Entity loss of unit rows sorted by group, each group up to its place in ``end``."""
    out: Tensor = _GroupedPairs.apply(s, t, end, positive_pairs_only)
    return out


class _GroupedPairs(torch.autograd.Function):
    """One pass computes value and gradient, which share their products."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor, end: Tensor, positive_pairs_only: bool) -> Tensor:
        value: Tensor
        value, grad = grouped_pairs(s, t.to(s.dtype), end, positive_pairs_only)
        ctx.save_for_backward(grad)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad * ctx.saved_tensors[0], None, None, None


@torch.library.custom_op("pyg_kd::grouped_pairs", mutates_args=())
def grouped_pairs(
    s: Tensor, t: Tensor, end: Tensor, positive_pairs_only: bool
) -> tuple[Tensor, Tensor]:
    """Sum over pairs within groups of ``(t_i.t_j - s_i.s_j)^2`` and its gradient to ``s``."""
    grad, values, start = torch.empty_like(s), [s.new_zeros(())], 0
    for stop in end.tolist():
        rows, start = slice(start, stop), stop
        if positive_pairs_only or stop - rows.start <= t.size(1):
            values += _pairs(s[rows], t[rows], positive_pairs_only, grad[rows])
        elif stop > rows.start:
            values.append(_gram(s[rows], t[rows], grad[rows]))
    return torch.stack(values).sum(), grad.mul_(-4)


@grouped_pairs.register_fake
def _(s: Tensor, t: Tensor, end: Tensor, positive_pairs_only: bool) -> tuple[Tensor, Tensor]:
    require_one_device(s, t)
    return s.new_empty(()), torch.empty_like(s)


keep_float32("pyg_kd::all_pairs", "pyg_kd::grouped_pairs")


def sum_shared_pairs(
    s: Tensor, t: Tensor, total: Callable[[Tensor], Tensor], num_shares: int
) -> Tensor:
    """A part of the sum over all pairs of unit rows, by a process that has some of the rows."""
    out: Tensor = _SharedGram.apply(s, t, total, num_shares)
    return out


class _SharedGram(torch.autograd.Function):
    """As :func:`_gram`, of rows that several processes have some of."""

    @staticmethod
    def forward(
        ctx: Any, s: Tensor, t: Tensor, total: Callable[[Tensor], Tensor], num_shares: int
    ) -> Tensor:
        t = t.to(s.dtype)
        with full_precision(s.device.type):
            products = [t.t() @ s, s.t() @ s, *_upper_blocks(t)]
            flat = total(torch.cat([product.flatten() for product in products]))
            parts = flat.split([product.numel() for product in products])
            ts, ss, *tt = (x.view_as(p) for x, p in zip(parts, products, strict=True))
            ctx.save_for_backward(torch.mm(t, ts).addmm_(s, ss, alpha=-1).mul_(-4))
        return _gram_loss(ts, ss, tt) / num_shares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad * ctx.saved_tensors[0], None, None, None


def _gram(s: Tensor, t: Tensor, grad: Tensor) -> Tensor:
    """The loss by d x d products, linear in the rows; writes the gradient over -4 to ``grad``."""
    ts, ss, tt = t.t() @ s, s.t() @ s, _upper_blocks(t)
    torch.mm(t, ts, out=grad).addmm_(s, ss, alpha=-1)
    return _gram_loss(ts, ss, tt)


def _gram_by_blocks(s: Tensor, teacher: Tensor, grad: Tensor) -> Tensor:
    """As :func:`_gram`, with a teacher's rows of any length, scaled where they are in a cache.

    Products with a short first side are fast, so those of the student are transposed.
    """
    rows = ROW_BLOCK if s.device.type == "cpu" else len(s)
    columns, ss = s.t().contiguous(), s.t() @ s
    st, lengths = s.new_zeros(s.size(1), teacher.size(1)), []
    tt: list[Tensor] | None = None
    for part, of_student in zip(teacher.split(rows), columns.split(rows, 1), strict=True):
        t, length = unit_rows(part)
        st.addmm_(of_student, t)
        tt = _upper_blocks(t, tt)
        lengths.append(length)
    of_teacher = torch.mm(st, teacher.t()).div_(torch.cat(lengths).t())
    grad.copy_(of_teacher.addmm_(ss, columns, alpha=-1).t())
    return _gram_loss(st, ss, tt or [])


def _gram_loss(ts: Tensor, ss: Tensor, tt: list[Tensor]) -> Tensor:
    # The three norms nearly cancel once the student fits, so they are summed in float64.
    norms = [_square_norm(m) for m in (ts, ss)]
    return (_symmetric_square_norm(tt) - 2 * norms[0] + norms[1]).clamp_(min=0).to(ss.dtype)


def _upper_blocks(x: Tensor, total: list[Tensor] | None = None) -> list[Tensor]:
    """Rows of ``x.T @ x``, which is symmetric, from the diagonal on: seven tenths of its time.

    With a ``total`` they are added to it, in place.
    """
    size = GRAM_BLOCK if x.device.type == "cpu" else x.size(1)
    starts = range(0, x.size(1), size)
    sides = [(x[:, start : start + size].t(), x[:, start:]) for start in starts]
    if total is None:
        return [left @ right for left, right in sides]
    return [part.addmm_(*side) for part, side in zip(total, sides, strict=True)]


def _symmetric_square_norm(blocks: list[Tensor]) -> Tensor:
    """The squared norm of a symmetric matrix, float64, from its :func:`_upper_blocks`."""
    norms = [2 * _square_norm(block) - _square_norm(block[:, : len(block)]) for block in blocks]
    return torch.stack(norms).sum()


def _square_norm(x: Tensor) -> Tensor:
    square: Tensor = torch.linalg.vector_norm(x, dtype=torch.float64).square()
    return square


def _pairs(s: Tensor, t: Tensor, positive_pairs_only: bool, grad: Tensor) -> list[Tensor]:
    """The loss pair by pair, in tiles; writes the gradient over -4 to ``grad``."""
    values: list[Tensor] = []
    grad.zero_()
    tiles = [slice(start, start + PAIR_TILE) for start in range(0, len(s), PAIR_TILE)]
    for i, rows in enumerate(tiles):
        for cols in tiles[i:]:  # the others mirror them
            rho = t[rows] @ t[cols].t()
            keep = rho > 0 if positive_pairs_only else None
            difference = rho.addmm_(s[rows], s[cols].t(), alpha=-1)
            if keep is not None:
                difference *= keep
            square = torch.dot(difference.view(-1), difference.view(-1))
            grad[rows].addmm_(difference, s[cols])
            if cols is not rows:
                square *= 2
                grad[cols].addmm_(difference.t(), s[rows])
            values.append(square)
    return values
