"""Attaching the trajectories of several teachers to one graph."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.knowledge.requirements import (
    OF_SEVERAL,
    check_values,
    graph_fingerprint,
    name_source,
)
from pyg_kd.knowledge.trajectory import Trajectory
from pyg_kd.typing import USER


def attach_trajectories(
    data: HeteroData, trajectories: Sequence[Trajectory], *, pad: bool = False
) -> HeteroData:
    r"""Attach the trajectories of several teachers to the graph they were trained on.

    The result is ``data``, copied shallowly, with ``data["user"].teacher_trajectory``
    (int32 ``[U, X, V, K]`` for ``X`` teachers) and ``data["user"].teacher_observed``
    (int32 ``[U, X, V, P]`` for ``P`` observed items), ``data.graph_fingerprint``, and
    ``data.trajectory_fingerprints``, the list of the teachers' fingerprints. Other
    knowledge on the graph is kept.

    Args:
        data: The training graph.
        trajectories: One per teacher, all from this graph and of the same length ``K``.
        pad: Repeat the first state of a teacher that has fewer states than others, such as a
            closed-form one, instead of refusing it. HetComp starts after the repetitions.

    Returns:
        The graph with the trajectories; ``data`` is left unchanged.

    Raises:
        ValueError: If ``trajectories`` is empty, one is from another graph or catalogue, numbers
            of states or lengths differ, or an id is out of range.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.knowledge import TrajectoryRecorder
        >>> from pyg_kd.models import MF
        >>> data = SyntheticInteractions(None, num_users=20, num_items=50, num_edges=80)[0]
        >>> recorder = TrajectoryRecorder(num_items=30, num_states=1)
        >>> teachers = [recorder.finish(MF(data, dim=4), data) for _ in range(2)]
        >>> attach_trajectories(data, teachers)["user"].teacher_trajectory.shape
        torch.Size([20, 2, 1, 30])
    """
    if not trajectories:
        raise ValueError(f"'trajectories' must not be empty (got {trajectories!r})")
    found = graph_fingerprint(data)
    for x, trajectory in enumerate(trajectories):
        _check(trajectory, x, found, trajectories[0])
    most = max(t.items.size(1) for t in trajectories)
    for x, t in enumerate(trajectories):
        if t.items.size(1) < most and not pad:
            raise ValueError(
                f"trajectory {x} has {t.items.size(1)} states, another has {most}: record equally "
                "many, or repeat the first state with pad=True"
            )
    graph = copy.copy(data)
    name_source(graph, found, None)
    graph.trajectory_fingerprints = [t.teacher_fingerprint for t in trajectories]
    graph[USER].teacher_trajectory = torch.stack([_padded(t.items, most) for t in trajectories], 1)
    graph[USER].teacher_observed = torch.stack([_padded(t.observed, most) for t in trajectories], 1)
    check_values(graph, OF_SEVERAL)
    return graph


def _check(t: Trajectory, x: int, fingerprint: str, first: Trajectory) -> None:
    """Raise ``ValueError`` unless a trajectory is from this graph and as wide as the first."""
    if t.graph_fingerprint != fingerprint:
        raise ValueError(
            f"trajectory {x} is from another graph or catalogue (fingerprint "
            f"{t.graph_fingerprint:.12}, 'data' has {fingerprint:.12})"
        )
    for name in ("items", "observed"):
        value, width = getattr(t, name), getattr(first, name).size(-1)
        if value.dim() != 3 or value.shape[:2] != t.items.shape[:2]:
            raise ValueError(
                f"'{name}' of trajectory {x} must have shape [users, states, length] "
                f"(got {list(value.shape)}, 'items' has {list(t.items.shape)})"
            )
        if value.size(2) != width:
            ranked = "items" if name == "items" else "observed items"
            raise ValueError(
                f"trajectory {x} ranks {value.size(2)} {ranked}, trajectory 0 ranks {width}"
            )


def _padded(states: Tensor, num: int) -> Tensor:
    """Repeat the first state, so that there are ``num`` in all."""
    first = states[:, :1].expand(-1, num - states.size(1), -1)
    return torch.cat([first, states], dim=1)
