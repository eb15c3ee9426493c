"""Topology losses: squared differences of all pairwise cosines, linear in the entities."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_kd.checks import require_choice
from pyg_kd.functional.sparse import keep_float32, require_one_device

#: What the group level compares: prototypes with entities, or with each other.
Level = Literal["prototype-entity", "prototype-prototype"]
LEVELS: tuple[Level, ...] = get_args(Level)

#: Rows and columns of the tile of cosines that is formed at once where pairs must be looked at.
PAIR_TILE = 512

#: Rows of a symmetric product that are computed at once on a CPU.
GRAM_BLOCK = 40


def full_topology_loss(
    student: Tensor, teacher: Tensor, *, reduction: Literal["sum", "mean"] = "sum"
) -> Tensor:
    r"""Full topology distillation of `"Topology Distillation for Recommender System"
    <https://arxiv.org/abs/2106.08700>`_.

    .. math::
        L = \| A^t - A^s \|_F^2, \qquad A_{ij} = \cos(e_i, e_j)

    With rows normalised to :math:`\hat T, \hat S` this is
    :math:`\|\hat T^\top \hat T\|^2 - 2 \|\hat T^\top \hat S\|^2 + \|\hat S^\top \hat S\|^2`,
    linear in the number of entities; few entities are compared pair by pair.

    Args:
        student: Representations of the student, ``[b, d_s]``.
        teacher: Representations of the teacher, ``[b, d_t]``, constant.
        reduction: ``"sum"`` over all ordered pairs (default) or ``"mean"``.

    Raises:
        ValueError: If the numbers of rows differ or ``reduction`` is unknown.

    Example:
        >>> teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> full_topology_loss(torch.tensor([[1.0], [1.0]]), teacher)
        tensor(2.)
    """
    check_rows(student, teacher)
    end = torch.tensor([student.size(0)])
    if reduction not in ("sum", "mean"):
        raise ValueError(f"'reduction' must be 'sum' or 'mean' (got {reduction!r})")
    loss = _grouped_pairs(_unit_rows(student), _unit_rows(teacher), end, False)
    return loss / max(student.size(0), 1) ** 2 if reduction == "mean" else loss


def hierarchical_topology_loss(
    student: Tensor,
    teacher: Tensor,
    group: Tensor,
    num_groups: int,
    *,
    level: Level = "prototype-entity",
    exclude_own_group: bool = True,
    positive_pairs_only: bool = False,
    detach_prototypes: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""Entity- and group-level topology of `"Topology Distillation for Recommender System"
    <https://arxiv.org/abs/2106.08700>`_.

    .. math::
        L_{entity} = \sum_{g(i) = g(j)} (\rho^t_{ij} - \rho^s_{ij})^2, \qquad
        L_{group} = \sum_{k,\, j \notin k}
        \left(\rho(P^t_k, t_j) - \rho(P^s_k, s_j)\right)^2

    with :math:`\rho` the cosine and prototypes :math:`P_k` the means of the
    groups; groups without a member are left out. The entity level takes the
    identity of :func:`full_topology_loss` within each group.

    Args:
        student: ``[b, d_s]``.
        teacher: ``[b, d_t]``, constant.
        group: The group of each entity, int64 ``[b]`` in ``0..num_groups - 1``.
        num_groups: Number of groups.
        level: ``"prototype-entity"`` (default) or ``"prototype-prototype"``,
            which compares the prototypes with each other.
        exclude_own_group: Leave the members of a group out of its own group
            term (the paper); the reference code keeps them.
        positive_pairs_only: Drop entity pairs whose teacher cosine is not
            positive (the reference code). A mask on the cosines has no such
            identity: every pair within a group is formed, in tiles, so that
            memory stays linear and time is quadratic in the size of a group.
        detach_prototypes: No gradient through the student's prototypes (the
            reference code).

    Returns:
        ``(entity_loss, group_loss)``, both sums.

    Raises:
        ValueError: If shapes differ or ``level`` is unknown.
    """
    check_rows(student, teacher)
    require_choice(LEVELS, level=level)
    if group.shape != student.shape[:1]:
        raise ValueError(f"'group' must be [{student.size(0)}] (got {list(group.shape)})")
    # Unlike bincount's, its size does not depend on the data: no synchronisation.
    count = group.new_zeros(num_groups).scatter_add_(0, group, torch.ones_like(group))
    group, order = torch.sort(group, stable=True)
    student, teacher = student.index_select(0, order), teacher.index_select(0, order)
    unit_student, unit_teacher = _unit_rows(student), _unit_rows(teacher)
    entity_loss = _grouped_pairs(unit_student, unit_teacher, count.cumsum(0), positive_pairs_only)

    # Of a group without a member the prototype is zero, and so are its cosines on both sides.
    p_student, p_teacher = (_unit_rows(_means(x, group, count)) for x in (student, teacher))
    if detach_prototypes:
        p_student = p_student.detach()
    if level == "prototype-prototype":
        difference = p_teacher @ p_teacher.t() - p_student @ p_student.t()
        return entity_loss, difference.square().sum()

    difference = torch.addmm(p_teacher @ unit_teacher.t(), p_student, unit_student.t(), alpha=-1)
    if exclude_own_group:
        difference = difference.scatter(0, group.unsqueeze(0), 0.0)
    return entity_loss, difference.square().sum()


def check_rows(student: Tensor, teacher: Tensor) -> None:
    """Raise ``ValueError`` unless both are matrices with one row per entity."""
    if student.dim() != 2 or teacher.dim() != 2 or student.size(0) != teacher.size(0):
        raise ValueError(
            "'student' and 'teacher' must be matrices with one row per entity "
            f"(got {list(student.shape)} and {list(teacher.shape)})"
        )


def _means(x: Tensor, group: Tensor, count: Tensor) -> Tensor:
    """The mean of each group, ``[num_groups, d]``; zero for one without a member."""
    total = x.new_zeros(len(count), x.size(1)).index_add(0, group, x)
    return total / count.clamp(min=1).unsqueeze(1)


def _unit_rows(x: Tensor) -> Tensor:
    """Rows divided by their norms. A row of zeros stays zero and gets no gradient."""
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    unit: Tensor = x / norm.masked_fill(norm == 0, torch.inf)
    return unit


def _grouped_pairs(s: Tensor, t: Tensor, end: Tensor, positive_pairs_only: bool) -> Tensor:
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


keep_float32("pyg_kd::grouped_pairs")


def _gram(s: Tensor, t: Tensor, grad: Tensor) -> Tensor:
    """The loss by d x d products, linear in the rows; writes the gradient over -4 to ``grad``."""
    ts, ss, tt = t.t() @ s, s.t() @ s, _upper_blocks(t)
    torch.mm(t, ts, out=grad).addmm_(s, ss, alpha=-1)
    # The three norms nearly cancel once the student fits, so they are summed in float64.
    norms = [m.double().square().sum() for m in (ts, ss)]
    return (_square_norm(tt) - 2 * norms[0] + norms[1]).clamp_(min=0).to(s.dtype)


def _upper_blocks(x: Tensor) -> list[Tensor]:
    """Rows of ``x.T @ x``, which is symmetric, from the diagonal on: seven tenths of its time."""
    size = GRAM_BLOCK if x.device.type == "cpu" else x.size(1)
    starts = range(0, x.size(1), size)
    return [x[:, start : start + size].t() @ x[:, start:] for start in starts]


def _square_norm(blocks: list[Tensor]) -> Tensor:
    """The squared norm of a symmetric matrix, float64, from its :func:`_upper_blocks`."""
    norms = []
    for block in blocks:
        square = block.double().square()
        norms.append(2 * square.sum() - square[:, : len(block)].sum())
    return torch.stack(norms).sum()


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
