"""A feedback loop: what is served is clicked, and what is clicked is learnt from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count
from pyg_kd.datasets.graph import edge_keys, graph_from_keys
from pyg_kd.evaluation.popularity_bias import gini
from pyg_kd.graph import interactions
from pyg_kd.progress import Progress
from pyg_kd.study.simulation.clicks import ClickModel, PositionBias, require_share
from pyg_kd.study.simulation.expected import expected_clicks
from pyg_kd.study.simulation.lists import served_lists
from pyg_kd.study.simulation.log import serve
from pyg_kd.study.simulation.policies import FixedLists
from pyg_kd.study.simulation.world import TasteWorld

#: Called with the graph so far and the week, from 0 on; returns a recommender, an index, or
#: lists ``[U, k]``.
Serve = Callable[[HeteroData, int], Any]


class Week(NamedTuple):
    """A week of a feedback loop.

    Args:
        week: Its number, from 0 on.
        clicks: Clicks of a visit.
        expected: Expected clicks of a user's list, exact.
        gini_served: Gini coefficient of how often items were served.
        gini_known: Gini coefficient of the items' edges in the graph after the week.
        coverage: The share of items that were served.
        head: The share of impressions that the 10 % most popular items at the start got.
        edges: Edges of the graph after the week.
    """

    week: int
    clicks: float
    expected: float
    gini_served: float
    gini_known: float
    coverage: float
    head: float
    edges: int


def feedback_loop(
    world: TasteWorld,
    data: HeteroData,
    serving: Serve,
    *,
    weeks: int = 8,
    k: int = 10,
    clicks: ClickModel | None = None,
    visit: float = 0.5,
    seed: int = 0,
    progress: bool = False,
) -> list[Week]:
    r"""Serve, collect clicks, learn from them, and serve again.

    In every week a share of the users comes once and gets a list; the clicks become edges, and
    ``serving`` is asked for what to serve next: it trains again, folds the clicks in, or serves
    what it has. Tastes do not change, so that growing concentration is the loop's own doing.

    Args:
        world: Whose tastes decide.
        data: The graph at the start.
        serving: Called with the graph so far and the week; returns what serves.
        weeks: Number of weeks.
        k: Length of the lists.
        clicks: How relevance becomes clicks; :class:`PositionBias` by default.
        visit: The share of the users who come in a week.
        seed: Seed of visits and clicks.
        progress: Show a progress bar.

    Returns:
        What happened in each week.

    Raises:
        ValueError: If an option is out of range, or ``data`` is not of the world.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(num_users=100, num_items=50, num_edges=600)[0]
        >>> world = TasteWorld.from_data(data)
        >>> same = torch.arange(5).repeat(100, 1)
        >>> loop = feedback_loop(world, data, lambda graph, week: same, weeks=2, k=5)
        >>> [week.coverage for week in loop]
        [0.1, 0.1]
    """
    require_count(weeks=weeks, k=k)
    require_share(visit=visit)
    model, rng = clicks or PositionBias(), Generator(world.device).manual_seed(seed)
    edges = interactions(data)
    if (edges.num_users, edges.num_items) != (world.num_users, world.num_items):
        raise ValueError(
            f"'data' must be of {world.num_users} users and {world.num_items} items, as 'world' "
            f"(got {edges.num_users} and {edges.num_items})"
        )
    degree = edges.by_item().degree
    head = degree.argsort(descending=True, stable=True)[: max(len(degree) // 10, 1)]
    graph, found = data, []
    with Progress("feedback loop", weeks, unit="week", shown=progress) as bar:
        for week in range(weeks):
            lists = served_lists(serving(graph, week), k, data=graph, name="serving")
            happened, graph = _week(world, graph, lists, head, model, visit, rng)
            found.append(happened._replace(week=week))
            bar.update()
    return found


def _week(
    world: TasteWorld,
    graph: HeteroData,
    lists: Tensor,
    head: Tensor,
    model: ClickModel,
    visit: float,
    rng: Generator,
) -> tuple[Week, HeteroData]:
    policy = FixedLists(lists)
    comes = torch.rand(world.num_users, generator=rng, device=world.device) < visit
    log = serve(world, policy, comes.nonzero().view(-1), clicks=model, generator=rng)
    grown = with_clicks(graph, log.user.repeat_interleave(log.clicks.sum(1)), log.items[log.clicks])
    served = torch.bincount(log.items[log.items >= 0], minlength=world.num_items)
    degree = interactions(grown).by_item().degree
    happened = Week(
        week=0,
        clicks=float(log.clicks.sum()) / max(len(log.user), 1),
        expected=float(expected_clicks(world, policy, model).mean()),
        gini_served=gini(served),
        gini_known=gini(degree),
        coverage=float((served > 0).double().mean()),
        head=float(served[head].sum()) / max(int(served.sum()), 1),
        edges=int(degree.sum()),
    )
    return happened, grown


def with_clicks(data: HeteroData, user: Tensor, item: Tensor) -> HeteroData:
    """The graph with further edges, users' and items' features kept; known pairs stay one edge."""
    edges = interactions(data)
    sizes = edges.num_users, edges.num_items
    known = edge_keys(edges.edge_index[0], edges.edge_index[1], *sizes)
    grown = graph_from_keys(torch.cat([known, edge_keys(user, item, *sizes)]).unique(), *sizes)
    for node_type in grown.node_types:
        grown[node_type].update(data[node_type].to_dict())
    return grown
