"""How well what is served ranks a later block, and what it still knows of earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.graph import Neighbors, as_edges, interactions, sorted_neighbors
from pyg_kd.metrics.ranking_metrics import hit_matrix, parse_metric, ranking_metrics
from pyg_kd.study.refresh.tables import Teacher
from pyg_kd.study.refresh.task import Served
from pyg_kd.transforms import TimeStep
from pyg_kd.transforms.split import interaction_store


@dataclass(frozen=True)
class Block:
    r"""Targets, and what is hidden beside them.

    Args:
        edges: The targets, int64 ``[2, n]``.
        seen: What is hidden from the ranking of every user.
    """

    edges: Tensor
    seen: Neighbors


class Measures:
    r"""Measures of a timeline: of the next block, and of what was held out of earlier ones.

    Hidden from the ranking of a block are a user's interactions before it, held out or not. From
    the ranking of what was held out, all other interactions of the user at any time are hidden,
    so that candidates stay the same however much is known.

    Args:
        data: The whole timeline.
        steps: Its steps.
        metric: Such as ``"recall@20"``.
    """

    def __init__(self, data: HeteroData, steps: list[TimeStep], metric: str) -> None:
        self.metric, (self.name, self.k) = metric, parse_metric(metric)
        edges, self.num_users, self.num_items = interactions(data)
        if self.k > self.num_items:
            raise ValueError(f"'metric' is {metric!r}, but there are {self.num_items} items")
        self.steps = steps
        self.next = [self._next(step) for step in steps]
        self.held = [self._held(edges, step) for step in steps if step.probe is not None]

    def _next(self, step: TimeStep) -> Block:
        held = [_targets(s.probe) for s in self.steps[: step.number + 1] if s.probe is not None]
        known = torch.cat([interactions(step.test).edge_index, *held], 1)
        return Block(_targets(step.test), self._neighbors(known))

    def _held(self, edges: Tensor, step: TimeStep) -> Block:
        assert step.probe is not None
        targets = _targets(step.probe)
        others = edges[:, ~torch.isin(self._keys(edges), self._keys(targets))]
        return Block(targets, self._neighbors(others))

    def _keys(self, edges: Tensor) -> Tensor:
        return edges[0] * self.num_items + edges[1]

    def _neighbors(self, edges: Tensor) -> Neighbors:
        return sorted_neighbors(edges[0], edges[1], self.num_users, self.num_items)

    def of_next(self, served: Served, t: int) -> dict[str, Any]:
        r"""The metric on the block after step ``t``, of all, and by the age of users and items.

        *From the base* are those with a message in the base block, *joined* those with the first
        one since, *new* those without any. The metric of some items counts these alone as
        targets, in the ranking of all items.

        Returns:
            ``"all"``, ``"users from the base"``, ..., ``"new items"``: each the mean ``"value"``
            over ``"users"`` of them, ``None`` without any; ``"user"`` and ``"value of users"``
            beside.
        """
        step, block = self.steps[t], self.next[t]
        users = block.edges[0].unique()
        lists = served.student.ranked(users, block.seen, self.k, served.popularity)
        found = self._values(users, lists, block.edges)
        result: dict[str, Any] = {"all": _mean(found)}
        for label, least, most in (
            ("from the base", 0, 0),
            ("joined", 1, t),
            ("new", t + 1, t + 1),
        ):
            since = step.user_since[users]
            result[f"users {label}"] = _mean(found[(since >= least) & (since <= most)])
            of_item = step.item_since[block.edges[1]]
            part = block.edges[:, (of_item >= least) & (of_item <= most)]
            result[f"items {label}"] = _mean(self._values(users, lists, part))
        return result | {"user": users.tolist(), "value of users": found.tolist()}

    def ahead(self, model: Teacher, popularity: Tensor, t: int) -> list[float]:
        """The metric on every block after step ``t``, if nothing were done until then."""
        found = []
        for block in self.next[t:]:
            users = block.edges[0].unique()
            lists = model.ranked(users, block.seen, self.k, popularity)
            found.append(float(self._values(users, lists, block.edges).mean()))
        return found

    def of_held(self, served: Served, t: int) -> list[float]:
        """The metric on what was held out of each block up to step ``t``."""
        found = []
        for block in self.held[: t + 1]:
            users = block.edges[0].unique()
            lists = served.student.ranked(users, block.seen, self.k, served.popularity)
            found.append(float(self._values(users, lists, block.edges).mean()))
        return found

    def of_validation(self, model: Teacher, popularity: Tensor, t: int) -> float:
        """The metric on the validation targets of step ``t``: what recipes are chosen by."""
        step = self.steps[t]
        edges = _targets(step.val)
        users = edges[0].unique()
        lists = model.ranked(users, interactions(step.train).by_user(), self.k, popularity)
        return float(self._values(users, lists, edges).mean())

    def _values(self, users: Tensor, lists: Tensor, edges: Tensor) -> Tensor:
        """The metric of each user, NaN for those without such targets, float64 ``[n]``."""
        targets = self._neighbors(edges)
        hits = hit_matrix(users, lists, targets, self.num_items)
        count = targets.degree[users]
        values = ranking_metrics(hits, count, (self.k,), (self.name,))[self.metric]
        return values.masked_fill(count == 0, torch.nan)


def _targets(graph: HeteroData) -> Tensor:
    return as_edges(interaction_store(graph).edge_label_index)


def _mean(values: Tensor) -> dict[str, float | int | None]:
    some = values[~values.isnan()]
    return {"value": float(some.mean()) if len(some) else None, "users": len(some)}
