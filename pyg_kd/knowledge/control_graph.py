"""Graphs that carry the knowledge of a control in place of a teacher's."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Mapping

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.graph import Neighbors, interactions
from pyg_kd.knowledge.confidence import RANKING
from pyg_kd.knowledge.requirements import (
    KNOWLEDGE,
    OF_SEVERAL,
    check_knowledge,
    check_values,
)
from pyg_kd.knowledge.values import PLACES, ROWS
from pyg_kd.typing import ITEM, USER


def carried(graph: HeteroData, caller: str, needs: Collection[str] | None = None) -> set[str]:
    r"""The names of the knowledge that a graph carries, after it was checked.

    Args:
        graph: A graph with knowledge.
        caller: Who asks, for messages.
        needs: Names out of :data:`~pyg_kd.knowledge.requirements.KNOWLEDGE`, if not all of it is
            wanted.

    Raises:
        ValueError: If there is none, a name is unknown, or knowledge is missing or invalid.
    """
    if unknown := set(needs or ()) - KNOWLEDGE.keys():
        raise ValueError(f"'needs' must be some of {[*KNOWLEDGE]} (got {sorted(unknown)})")
    stores = (graph[USER], graph[ITEM])
    found = {name for name in KNOWLEDGE if any(name in store for store in stores)}
    names = found if needs is None else set(needs)
    if not names:
        raise ValueError(f"{caller}: 'graph' carries no knowledge: call extract_knowledge first")
    check_knowledge(graph, caller, tuple(name for name in KNOWLEDGE if name in names))
    return names


def with_knowledge(
    graph: HeteroData,
    names: Collection[str],
    values: Mapping[tuple[str, str], Tensor],
    control: str,
) -> HeteroData:
    r"""A copy of a graph with other knowledge, which is signed as that of a control.

    Args:
        graph: A graph with knowledge.
        names: What the copy carries.
        values: What is put in its place, by node type and name. Names that are carried but not put
            here stay as they are.
        control: What the control is; its fingerprint follows from this text and from the
            teacher's fingerprint.

    Raises:
        ValueError: If a value is invalid.
    """
    result = copy.copy(graph)
    beside = (*PLACES, ROWS)
    for store in (result[USER], result[ITEM]):
        for name in {*KNOWLEDGE, *beside} - set(names):
            if name not in beside or "teacher_items" not in names:
                store.pop(name, None)
    if any(name == "teacher_items" for _, name in values):  # what it carried goes with it
        for name in beside:
            result[USER].pop(name, None)
    for (node_type, name), value in values.items():
        result[node_type][name] = value
    for name in ("teacher_fingerprint", "trajectory_fingerprints"):
        if name in result:
            del result[name]
    if set(names) & set(OF_SEVERAL):
        teachers = getattr(graph, "trajectory_fingerprints", [])
        result.trajectory_fingerprints = [_signed(control, teacher) for teacher in teachers]
    if set(names) - set(OF_SEVERAL):
        own = str(getattr(graph, "teacher_fingerprint", ""))
        result.teacher_fingerprint = _signed(control, own)
    result.knowledge_control = control
    check_values(result, tuple(names))
    check_knowledge(result, control.partition(" ")[0], tuple(names))
    return result


def _signed(control: str, teacher: str) -> str:
    return hashlib.sha256(f"{control} {teacher}".encode()).hexdigest()


def listed_nodes(graph: HeteroData, node_type: str) -> Tensor:
    """The nodes that have a list, int64, on a graph with :func:`whole_lists`."""
    lists: Tensor = graph[node_type][RANKING[node_type]]
    return (lists[:, 0] >= 0).nonzero().squeeze(1)


def usual_scores(graph: HeteroData, lists: Tensor) -> Tensor:
    """What the teacher's scores are at each place, on average, for other lists, ``[U, K]``."""
    scores, listed = graph[USER].teacher_scores, graph[USER].teacher_items >= 0
    usual: Tensor = (scores.double() * listed).sum(0) / listed.sum(0).clamp(min=1)
    return usual.to(scores.dtype).expand(lists.shape).masked_fill(lists < 0, 0.0)


def random_own(graph: HeteroData, node_type: str, width: int, generator: torch.Generator) -> Tensor:
    """What each node has edges to, ``width`` at most, in random order, int64 ``[n, width]``."""
    edges = interactions(graph)
    own = edges.by_user() if node_type == USER else edges.by_item()
    # One order for all devices.
    key = torch.rand(len(own.col), generator=generator, dtype=torch.double, device=generator.device)
    return own_lists(own, key.to(own.col.device), width)


def own_lists(own: Neighbors, key: Tensor, width: int) -> Tensor:
    """Each row's neighbours by a key, the lowest first, int64 ``[n, width]``, padded with -1."""
    row = own.row
    order = key.sort(stable=True).indices
    order = order[row[order].sort(stable=True).indices]
    place = torch.arange(len(order), device=order.device) - own.ptr[row]
    lists = torch.full((len(own.degree), width), -1, dtype=torch.long, device=order.device)
    kept = place < width
    lists[row[kept], place[kept]] = own.col[order][kept].long()
    return lists
