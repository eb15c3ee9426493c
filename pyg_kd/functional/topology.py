"""Topology losses: squared differences of all pairwise cosines, linear in the entities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from pyg_kd.checks import require_choice
from pyg_kd.functional.topology_pairs import (
    sum_all_pairs,
    sum_grouped_pairs,
    sum_shared_pairs,
    unit_rows,
)

#: What the group level compares: prototypes with entities, or with each other.
Level = Literal["prototype-entity", "prototype-prototype"]
LEVELS: tuple[Level, ...] = get_args(Level)


def full_topology_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    reduction: Literal["sum", "mean"] = "sum",
    total: Callable[[Tensor], Tensor] | None = None,
    num_shares: int = 1,
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
        total: Adds up a tensor over processes, each of which has some of the rows. The products of
            width by width of all rows are added up, and what each process returns adds up to the
            loss of all rows, whose gradient it has for its own.
        num_shares: Number of these processes.

    Raises:
        ValueError: If the numbers of rows differ, ``reduction`` is unknown, or is ``"mean"`` with
            rows on several processes.

    Example:
        >>> teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> full_topology_loss(torch.tensor([[1.0], [1.0]]), teacher)
        tensor(2.)
    """
    check_rows(student, teacher)
    if reduction not in ("sum", "mean"):
        raise ValueError(f"'reduction' must be 'sum' or 'mean' (got {reduction!r})")
    if total is not None:
        if reduction != "sum":
            raise ValueError(f"'reduction' must be 'sum' with 'total' (got {reduction!r})")
        return sum_shared_pairs(unit_rows(student)[0], unit_rows(teacher)[0], total, num_shares)
    loss = sum_all_pairs(student, teacher)
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
    share: tuple[int, int] = (0, 1),
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
        share: The number of a process and how many there are, all with the same arguments: it
            computes its groups of the entity level and its entities of the group level (or
            prototypes, where these are compared with each other). The losses add up over processes.

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
    unit_student, unit_teacher = unit_rows(student)[0], unit_rows(teacher)[0]
    entity_loss = _entity_level(
        unit_student, unit_teacher, group, count, positive_pairs_only, *share
    )
    dtype = torch.promote_types(student.dtype, teacher.dtype)
    student, teacher, unit_student, unit_teacher = (
        x.to(dtype) for x in (student, teacher, unit_student, unit_teacher)
    )
    # Of a group without a member the prototype is zero, and so are its cosines on both sides.
    p_student, p_teacher = (unit_rows(_means(x, group, count))[0] for x in (student, teacher))
    if detach_prototypes:
        p_student = p_student.detach()
    if level == "prototype-prototype":
        unit_student, unit_teacher, group = p_student, p_teacher, group[:0]
    unit_student, unit_teacher, group = (
        x.tensor_split(share[1])[share[0]] for x in (unit_student, unit_teacher, group)
    )
    difference = torch.addmm(p_teacher @ unit_teacher.t(), p_student, unit_student.t(), alpha=-1)
    if exclude_own_group and level == "prototype-entity":
        difference = difference.scatter(0, group.unsqueeze(0), 0.0)
    return entity_loss, difference.square().sum()


def _entity_level(
    student: Tensor,
    teacher: Tensor,
    group: Tensor,
    count: Tensor,
    positive_pairs_only: bool,
    rank: int,
    num_shares: int,
) -> Tensor:
    """The entity level of every ``num_shares``-th group, from unit rows sorted by group."""
    if num_shares > 1:
        own = (group % num_shares == rank).nonzero().squeeze(1)
        student, teacher = student.index_select(0, own), teacher.index_select(0, own)
        mine = torch.arange(len(count), device=count.device) % num_shares == rank
        count = torch.where(mine, count, 0)
    return sum_grouped_pairs(student, teacher, count.cumsum(0), positive_pairs_only)


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
