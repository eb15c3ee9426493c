"""How long a graph model takes to compute its vectors."""

from __future__ import annotations

import copy
import time
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from pyg_kd.checks import require_count
from pyg_kd.retrieval.latency.stages import Clock

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

    from pyg_kd.models import Recommender


class Propagation(NamedTuple):
    """Median seconds to compute the vectors of all users and items.

    ``fresh`` on a graph that is new to the process, as after interactions were added: it is
    checked, sorted and normalised first. ``cached`` on the same graph again.
    """

    fresh: float
    cached: float


def propagation_seconds(
    model: Recommender, graph: HeteroData, *, runs: int = 5, clock: Clock = time.perf_counter
) -> Propagation:
    r"""Time what a model does before there are vectors to search.

    An index holds the vectors, so that requests don't pay for this; a service that applies the
    model at each request does.

    Args:
        model: A recommender, of width ``d``.
        graph: The graph to apply it to. It is not changed.
        runs: How often each is timed.
        clock: Returns seconds.

    Raises:
        ValueError: If ``runs`` is not a positive integer, or the model doesn't fit the graph.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.models import LightGCN
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> found = propagation_seconds(LightGCN(data, dim=4), data)
        >>> found.fresh > 0 and found.cached > 0
        True
    """
    from pyg_kd.models.inference import inference, represent

    require_count(runs=runs)

    def seconds(data: HeteroData) -> float:
        start = clock()
        represent(model, data)
        return clock() - start

    with inference(model):
        represent(model, graph)  # what is allocated and loaded at the first call
        fresh = [seconds(_unseen(graph)) for _ in range(runs)]
        represent(model, graph)  # what is cached is of the graph given from here on
        cached = [seconds(graph) for _ in range(runs)]
    return Propagation(median(fresh), median(cached))


def _unseen(graph: HeteroData) -> HeteroData:
    """A copy whose edges nothing is cached for."""
    from pyg_kd.edge_types import interaction_type

    data = copy.copy(graph)
    edges = data[interaction_type(data)]
    edges.edge_index = edges.edge_index.clone()
    return data
