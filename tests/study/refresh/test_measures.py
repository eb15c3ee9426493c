from __future__ import annotations

import math

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.graph import interactions
from pyg_kd.study.refresh import Never, Recipe, Served, Task
from pyg_kd.study.refresh.measures import Measures
from pyg_kd.transforms import TimeStep
from pyg_kd.typing import INTERACTS

Edge = tuple[int, int]
K = 5


def _pairs(index: torch.Tensor) -> set[Edge]:
    return set(map(tuple, index.t().tolist()))


@pytest.fixture
def served(steps: list[TimeStep], recipe: Recipe) -> Served:
    return Task(steps[:1], recipe, 0).from_scratch()


def _recall(
    served: Served, targets: set[Edge], hidden: set[Edge], counted: set[Edge]
) -> dict[int, float]:
    """Recall of each user with counted targets, by sorting a row of scores."""
    student, found = served.student, {}
    for user in sorted({u for u, _ in targets}):
        own = {i for u, i in counted if u == user}
        if student.has_user[user]:
            scores = (student.item.double() @ student.user[user].double()).tolist()
            scores = [s if has else -math.inf for s, has in zip(scores, student.has_item.tolist(),
                                                                strict=True)]  # fmt: skip
        else:
            scores = served.popularity.tolist()
        items = [i for i in range(len(scores)) if (user, i) not in hidden]
        top = sorted(items, key=lambda i: (-scores[i], i))[:K]
        if own:
            found[user] = len(own & set(top)) / len(own)
    return found


def test_the_next_block_against_a_loop(
    stream: HeteroData, steps: list[TimeStep], served: Served
) -> None:
    t = 1
    found = Measures(stream, steps, f"recall@{K}").of_next(served, t)
    everything = interactions(stream).edge_index
    early = stream[INTERACTS].time < steps[t].boundary
    hidden = _pairs(everything[:, early])
    targets = _pairs(steps[t].test[INTERACTS].edge_label_index)
    messages = [_pairs(step.test[INTERACTS].edge_index) for step in steps[: t + 1]]
    since: list[dict[int, str]] = []
    for side in (0, 1):
        base = {edge[side] for edge in messages[0]}
        known = {edge[side] for edge in messages[t]}
        since.append({
            edge[side]: "from the base" if edge[side] in base
            else "joined" if edge[side] in known else "new" for edge in targets
        })  # fmt: skip
    wanted = _recall(served, targets, hidden, targets)
    assert found["user"] == list(wanted)
    assert found["value of users"] == pytest.approx(list(wanted.values()))
    assert found["all"]["value"] == pytest.approx(sum(wanted.values()) / len(wanted))
    for group in ("from the base", "joined", "new"):
        values = [value for user, value in wanted.items() if since[0][user] == group]
        assert found[f"users {group}"]["users"] == len(values)
        if values:
            assert found[f"users {group}"]["value"] == pytest.approx(sum(values) / len(values))
        counted = {edge for edge in targets if since[1][edge[1]] == group}
        part = list(_recall(served, targets, hidden, counted).values())
        assert found[f"items {group}"]["users"] == len(part)
        if part:
            assert found[f"items {group}"]["value"] == pytest.approx(sum(part) / len(part))
    assert {"joined", "from the base"} <= set(since[0].values())
    assert found["items new"]["value"] in (None, 0.0)


def test_what_was_held_out_against_a_loop(
    stream: HeteroData, steps: list[TimeStep], served: Served
) -> None:
    found = Measures(stream, steps, f"recall@{K}").of_held(served, 1)
    everything = _pairs(interactions(stream).edge_index)
    assert len(found) == 2
    for value, step in zip(found, steps, strict=False):
        assert step.probe is not None
        targets = _pairs(step.probe[INTERACTS].edge_label_index)
        wanted = _recall(served, targets, everything - targets, targets)
        assert value == pytest.approx(sum(wanted.values()) / len(wanted))


def test_ahead_is_what_never_serves(
    stream: HeteroData, steps: list[TimeStep], recipe: Recipe, served: Served
) -> None:
    measures = Measures(stream, steps, f"recall@{K}")
    ahead = measures.ahead(served.student, served.popularity, 0)
    assert len(ahead) == len(steps)
    for t, value in enumerate(ahead):
        later = served if t == 0 else Never()(served, Task(steps[: t + 1], recipe, 0))
        assert value == pytest.approx(measures.of_next(later, t)["all"]["value"])
    assert measures.ahead(served.student, served.popularity, 2) == pytest.approx(ahead[2:])


def test_validation_is_inside_of_what_is_known(
    stream: HeteroData, steps: list[TimeStep], served: Served
) -> None:
    found = Measures(stream, steps, f"recall@{K}").of_validation(
        served.student, served.popularity, 1
    )
    targets = _pairs(steps[1].val[INTERACTS].edge_label_index)
    wanted = _recall(served, targets, _pairs(steps[1].train[INTERACTS].edge_index), targets)
    assert found == pytest.approx(sum(wanted.values()) / len(wanted))


def test_metrics_are_checked(stream: HeteroData, steps: list[TimeStep]) -> None:
    with pytest.raises(ValueError, match="'metric' is 'recall@91', but there are 90 items"):
        Measures(stream, steps, "recall@91")
    with pytest.raises(ValueError, match="'metric' must look like 'recall@20'"):
        Measures(stream, steps, "recall")
