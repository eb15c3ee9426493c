"""The numbers of :class:`~pyg_kd.training.diagnostics.Diagnostics`, each a function of its own."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.distill.base import Distillation
from pyg_kd.distill.distillation_experts import DistillationExperts
from pyg_kd.distill.topology_distillation import TopologyDistillation
from pyg_kd.functional.ranking import rank_unseen
from pyg_kd.graph import interactions
from pyg_kd.knowledge.confidence import whole_lists
from pyg_kd.metrics.agreement import (
    cka,
    compare_gradients,
    effective_rank,
    nearest,
    overlap_at_k,
    rank_biased_overlap,
    uniformity,
    variance_share,
)
from pyg_kd.training.objective import Objective
from pyg_kd.typing import ITEM, USER, Batch

#: Entities that the unbiased estimate needs.
LEAST = 4

#: Entities whose uniformity is measured, with each other.
COMPARED = 1024


class Reference(NamedTuple):
    """What does not change while a student is trained.

    Args:
        users: Users whose lists are compared, int64 ``[n]``.
        depth: Length of the lists.
        lists: The teacher's, int64 ``[n, depth]``; ``None`` where it is not known.
        rows: Entities by node type whose neighbours are compared.
        neighbours: The teacher's, by node type; empty without representations.
        x: The teacher's representations, by node type; empty where there are none.
    """

    users: Tensor
    depth: int
    lists: Tensor | None
    rows: dict[str, Tensor]
    neighbours: dict[str, Tensor]
    x: dict[str, Tensor]


def reference_of(
    data: HeteroData, users: Tensor, items: Tensor, depth: int, num_neighbours: int
) -> Reference:
    """What a graph knows of its teacher, for some users and items."""
    edges = interactions(data)
    depth = min(depth, edges.num_items)
    x = {t: data[t].teacher_x for t in (USER, ITEM) if "teacher_x" in data[t]}
    lists = whole_lists(data)[USER].get("teacher_items")
    if isinstance(lists, Tensor):
        depth = min(depth, lists.size(1))
        lists = lists[users, :depth].long()
    elif len(x) == 2 and getattr(data, "teacher_inner_product", True):
        ranked = rank_unseen(
            lambda rows, cols: x[USER][rows] @ x[ITEM][cols].t(),
            *(edges.num_users, edges.num_items, depth),
            seen=edges.by_user(),
            rows=users,
        )
        lists = torch.cat([block.ids for block in ranked])
    else:
        lists = None
    rows = {USER: users, ITEM: items}
    near = {
        t: nearest(x[t], min(num_neighbours, len(x[t]) - 1), rows=rows[t])
        for t in x
        if len(x[t]) > 1
    }
    return Reference(users, depth, lists, rows, near, x)


def of_lists(lists: Tensor, known: Reference, k: int) -> dict[str, float]:
    """Agreement of the student's lists, ``[n, depth]``, with the teacher's."""
    if known.lists is None:
        return {}
    taught = known.lists[:, 0] >= 0  # knowledge may have been extracted for some users only
    if not bool(taught.any()):
        return {}
    first, second, k = lists[taught], known.lists[taught], min(k, known.depth)
    return {
        f"overlap@{k}": float(overlap_at_k(first, second, k).mean()),
        "rbo": float(rank_biased_overlap(first, second).mean()),
    }


def of_space(node_type: str, x: Tensor, known: Reference, num_neighbours: int) -> dict[str, float]:
    """Agreement of the student's representations with the teacher's, and their spread."""
    x = x.detach()
    found: dict[str, float] = {}
    if node_type in known.neighbours:
        near, k = known.neighbours[node_type], min(num_neighbours, len(x) - 1)
        own = nearest(x, k, rows=known.rows[node_type])
        found[f"neighbours {node_type}"] = float(overlap_at_k(own, near, k).mean())
    if node_type in known.x and len(x) >= LEAST:
        found[f"cka {node_type}"] = cka(x, known.x[node_type], debiased=True)
    found[f"effective rank {node_type}"] = effective_rank(x)
    found[f"top variance {node_type}"] = variance_share(x)
    if len(x) > 1:
        found[f"uniformity {node_type}"] = uniformity(x, max_entities=COMPARED)
    return found


def balance(name: str, method: Distillation, data: HeteroData) -> dict[str, float]:
    """How many experts and groups of a method are in use, as numbers of equal ones."""
    found: dict[str, float] = {}
    for part in method.modules():
        if isinstance(part, DistillationExperts):
            for node_type in (USER, ITEM):
                load = part.load(node_type, data[node_type].teacher_x)
                found[f"experts {name} {node_type}"] = effective_number(load)
        if isinstance(part, TopologyDistillation) and part.experts is not None:
            for node_type in (USER, ITEM):
                group = part.experts.group(node_type, data[node_type].teacher_x)
                found[f"groups {name} {node_type}"] = effective_number(torch.bincount(group))
    return found


def effective_number(load: Tensor) -> float:
    r"""The number of equal shares with the same entropy, :math:`\exp H`.

    Example:
        >>> round(effective_number(torch.tensor([5, 5, 0])), 3)
        2.0
    """
    share = load.double() / load.double().sum()
    return float(torch.special.entr(share).sum().exp())


def conflicts(objective: Objective, data: HeteroData, batch: Batch) -> dict[str, float]:
    """How each method's gradient lies to that of the base loss, on one batch."""
    parameters = [p for p in objective.model.parameters() if p.requires_grad]
    modes = [(module, module.training) for module in objective.modules()]
    objective.eval()
    found: dict[str, float] = {}
    try:
        with torch.enable_grad():
            base, *terms = objective.terms(data, batch)
            for name, weight, term in zip(objective.names, objective.weights, terms, strict=True):
                pair = compare_gradients(base, term, parameters)
                if pair.cosine is not None:
                    found[f"conflict {name}"] = pair.cosine
                if objective.base_weight and pair.first:
                    found[f"pull {name}"] = (
                        weight * pair.second / (objective.base_weight * pair.first)
                    )
    finally:
        for module, mode in modes:
            module.training = mode
    return found
