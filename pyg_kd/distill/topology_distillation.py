"""TD: the student reproduces the similarities between all entities in the teacher's space."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice, require_count
from pyg_kd.distill.base import Distillation
from pyg_kd.distill.distillation_experts import (
    VARIANTS,
    DistillationExperts,
    Variant,
    temperature_range,
)
from pyg_kd.functional.precision import full_precision
from pyg_kd.functional.sparse import gather_rows, stacked_rows
from pyg_kd.functional.topology import (
    LEVELS,
    Level,
    full_topology_loss,
    hierarchical_topology_loss,
)
from pyg_kd.typing import ITEM, USER, Batch, XDict

Mode = Literal["full", "hierarchical"]
MODES: tuple[Mode, ...] = get_args(Mode)
Entities = Literal["batch", "all"]
ENTITIES: tuple[Entities, ...] = get_args(Entities)


class TopologyDistillation(Distillation):
    r"""Full and hierarchical topology distillation (FTD, HTD) of `"Topology Distillation for
    Recommender System" <https://arxiv.org/abs/2106.08700>`_.

    With :math:`A_{ij}` the cosine of entities :math:`i, j`, users and items together,

    .. math::
        L_{FTD} = \| A^t - A^s \|_F^2, \qquad
        L_{HTD} = \gamma (L_{entity} + L_{group}) + (1 - \gamma) L_{DE}

    where the entity level compares the pairs within a group, the group level compares prototypes
    with the entities outside their group
    (:func:`~pyg_kd.functional.hierarchical_topology_loss`), and :math:`L_{DE}`
    (:class:`DistillationExperts`) trains the nets that assign the groups, ``num_groups`` for
    users and as many for items. Memory is linear in the number of entities, and so is time, except
    with ``positive_pairs_only``, which has to form every pair within a group.

    Args:
        mode: ``"hierarchical"`` (default), or ``"full"``, which ignores all other options but
            ``entities``.
        num_groups: Number of groups per node type, and of experts of :math:`L_{DE}`.
        gamma: Weight :math:`\gamma` of the two levels.
        level: ``"prototype-entity"`` (default) or ``"prototype-prototype"``.
        variant: ``"paper"`` (default), or ``"reference"`` for the authors' code: the next three
            options default to ``False, True, True``, the temperature lags one epoch behind, and
            experts are :math:`d_s` wide if :math:`d_s = d_t`, not half of that.
        exclude_own_group: Leave an entity out of its own group's term (prototype-entity only).
        positive_pairs_only: Drop entity pairs whose teacher cosine is not positive. Time is then
            quadratic in the size of a group.
        detach_prototypes: Stop the gradient at the student's prototypes.
        temperature: First and last routing temperature of :math:`L_{DE}`.
        entities: ``"batch"`` (default), or ``"all"`` for the whole graph in every step (full mode
            only).

    Raises:
        ValueError: If an option is unknown or out of range.

    Example:
        >>> TopologyDistillation(mode="full").needs
        ('teacher_x',)
    """

    needs = ("teacher_x",)

    def __init__(
        self,
        mode: Mode = "hierarchical",
        *,
        num_groups: int = 30,
        gamma: float = 0.5,
        level: Level = "prototype-entity",
        variant: Variant = "paper",
        exclude_own_group: bool | None = None,
        positive_pairs_only: bool | None = None,
        detach_prototypes: bool | None = None,
        temperature: float | tuple[float, float] = (1.0, 1e-10),
        entities: Entities = "batch",
    ) -> None:
        super().__init__()
        require_choice(MODES, mode=mode)
        require_choice(LEVELS, level=level)
        require_choice(VARIANTS, variant=variant)
        require_choice(ENTITIES, entities=entities)
        require_count(num_groups=num_groups)
        if not 0 <= gamma <= 1:
            raise ValueError(f"'gamma' must lie in [0, 1] (got {gamma})")
        if entities == "all" and mode != "full":
            raise ValueError(f"'entities' can be 'all' in full mode only (got mode={mode!r})")
        paper = variant == "paper"
        self.mode, self.num_groups, self.gamma, self.level = mode, num_groups, gamma, level
        self.variant, self.entities = variant, entities
        self.exclude_own_group = paper if exclude_own_group is None else exclude_own_group
        self.positive_pairs_only = not paper if positive_pairs_only is None else positive_pairs_only
        self.detach_prototypes = not paper if detach_prototypes is None else detach_prototypes
        self.temperature = temperature_range(temperature)
        self.row_wise = (USER, ITEM) if entities == "batch" else ()
        self.experts: DistillationExperts | None = None
        if mode == "hierarchical":
            self.experts = DistillationExperts(
                num_experts=num_groups, temperature=self.temperature, variant=variant
            )
            self.experts.halve_equal_widths = paper

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Create the nets that assign groups and reconstruct the teacher."""
        if self.experts is not None:
            self.experts.bind(graph, dim)

    def on_epoch_start(self, epoch: int, max_epochs: int, x_dict: XDict | None = None) -> None:
        """Anneal the temperature of the routing."""
        if self.experts is not None:
            self.experts.on_epoch_start(epoch, max_epochs, x_dict)

    def rows_read(self, graph: HeteroData, batch: Batch) -> dict[str, Tensor | None]:
        """Those of the whole batch, where entities are not compared by sums over them."""
        return super().rows_read(graph, batch if self._adds_up(graph, batch) else batch.whole)

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """Compute the topology loss of the unique entities of the batch, or of all entities."""
        self.ensure_bound(x_dict, graph)
        share, adds_up = batch, self._adds_up(graph, batch)
        batch = batch if adds_up else batch.whole
        teacher = [graph[node_type].teacher_x for node_type in (USER, ITEM)]
        student = [x_dict[USER], x_dict[ITEM]]
        if self.entities == "batch":
            index = (batch.unique_users, batch.unique_items)
            both = stacked_rows(teacher, index)
            student = [gather_rows(s, i) for s, i in zip(student, index, strict=True)]
        else:
            teacher, student = ([batch.own(x) for x in side] for side in (teacher, student))
            both = torch.cat(teacher)
        # Half precision cannot represent sums of squares that nearly cancel.
        with full_precision(student[0].device.type):
            if self.experts is None:
                total = share.total if adds_up and share.num_shares > 1 else None
                loss = full_topology_loss(
                    torch.cat(student), both, total=total, num_shares=share.num_shares
                )
                return loss if adds_up else loss / share.num_shares
            levels = self._levels(self.experts, student, both, share)
        reconstruction = [
            self.experts.reconstruction(
                node_type,
                share.own(s),
                share.own(t),
                share.own(self.experts.uniform(node_type, len(s))),
            )
            for node_type, s, t in zip((USER, ITEM), student, _by_type(both, student), strict=True)
        ]
        return self.gamma * levels + (1 - self.gamma) * sum(reconstruction)

    def _adds_up(self, graph: HeteroData, batch: Batch) -> bool:
        """Whether products of width by width are summed over the entities of a share."""
        if self.entities == "all" or self.experts is not None:
            return self.experts is None
        # Few entities are compared pair by pair.
        num_entities = len(batch.whole.unique_users) + len(batch.whole.unique_items)
        return num_entities > int(graph[USER].teacher_x.size(1))

    def _levels(
        self,
        experts: DistillationExperts,
        student: list[Tensor],
        teacher: Tensor,
        share: Batch,
    ) -> Tensor:
        parts = zip((USER, ITEM), _by_type(teacher, student), strict=True)
        groups = [experts.group(node_type, part) for node_type, part in parts]
        entity, group = hierarchical_topology_loss(
            torch.cat(student),
            teacher,
            # A user and an item never share a group.
            torch.cat([groups[0], groups[1] + self.num_groups]),
            2 * self.num_groups,
            level=self.level,
            exclude_own_group=self.exclude_own_group,
            positive_pairs_only=self.positive_pairs_only,
            detach_prototypes=self.detach_prototypes,
            share=share.place,
        )
        return entity + group


def _by_type(teacher: Tensor, student: list[Tensor]) -> tuple[Tensor, ...]:
    """The teacher's users and its items, as many of each as the student's."""
    parts: tuple[Tensor, ...] = teacher.split([len(s) for s in student])
    return parts
