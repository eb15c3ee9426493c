"""Places for the nodes of a small graph, by NetworkX."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

#: Width of the drawing over its height.
ASPECT = 1.3

#: Least distance of two nodes, in heights of the drawing.
LEAST = 0.16

#: Distance to keep from the nodes at the ends, across.
END = 0.3

#: Rounds in which nodes that are too close push each other away.
ROUNDS = 200


def place(
    num_nodes: int,
    edges: Sequence[tuple[int, int, float]],
    groups: Sequence[Sequence[int]],
    *,
    first: int,
    last: int,
    seed: int = 0,
) -> npt.NDArray[np.float64]:
    r"""Lay out a graph so that edges pull its nodes together and no two nodes overlap.

    The springs give each node its place across, and the order of a group from top to bottom; a
    group has the whole height.

    Args:
        num_nodes: How many nodes there are.
        edges: Pairs of nodes, and how strongly the edge pulls.
        groups: Nodes that are spread over the height together: all but the two at the ends.
        first: The node at the left end.
        last: The node at the right end.
        seed: Where nodes begin is drawn with this seed.

    Returns:
        Places, float64 ``[n, 2]``: from 0 to :data:`ASPECT` across, from 0 to 1 down.

    Raises:
        ImportError: If NetworkX is not installed.

    Example:
        >>> place(3, [(0, 1, 1.0), (1, 2, 1.0)], [[1]], first=0, last=2).round(2).tolist()
        [[0.0, 0.5], [0.65, 0.5], [1.3, 0.5]]
    """
    import networkx

    graph = networkx.Graph()
    graph.add_nodes_from(range(num_nodes))
    graph.add_weighted_edges_from(edges)
    xy = np.random.default_rng(seed).uniform(0, (ASPECT, 1), (num_nodes, 2))
    xy[first], xy[last] = (0.0, 0.5), (ASPECT, 0.5)
    begin, apart = dict(enumerate(xy)), 0.6 / max(num_nodes, 1) ** 0.5
    placed = networkx.spring_layout(graph, k=apart, pos=begin, fixed=[first, last], seed=seed)
    inner = [node for group in groups for node in group]
    for node in inner:
        xy[node] = placed[node]
    _across(xy, inner)
    for group in groups:
        _down(xy, group)
    _push_apart(xy, inner)
    return xy


def _across(xy: npt.NDArray[np.float64], nodes: list[int]) -> None:
    """Stretch the nodes over the width, with a margin to the two at the ends."""
    if not nodes:
        return
    x = xy[nodes, 0]
    span = float(np.ptp(x))
    part = (x - x.min()) / span if span > 1e-6 else np.full(len(nodes), 0.5)
    xy[nodes, 0] = END + part * (ASPECT - 2 * END)


def _down(xy: npt.NDArray[np.float64], nodes: Sequence[int]) -> None:
    """Spread the nodes of a group evenly over the height, in their order."""
    order = np.argsort(xy[list(nodes), 1], kind="stable")
    for place, at in enumerate(order.tolist()):
        xy[nodes[at], 1] = (place + 0.5) / len(nodes)


def _push_apart(xy: npt.NDArray[np.float64], nodes: list[int]) -> None:
    for _ in range(ROUNDS):
        offset = xy[nodes][:, None] - xy[None]
        distance = np.hypot(offset[..., 0], offset[..., 1])
        distance[np.arange(len(nodes)), nodes] = np.inf  # a node is not too close to itself
        lacking = np.clip(LEAST - distance, 0, None)
        if not lacking.any():
            return
        step = offset / np.maximum(distance, 1e-9)[..., None] * lacking[..., None]
        xy[nodes] = np.clip(xy[nodes] + 0.5 * step.sum(1), 0, (ASPECT, 1.0))
