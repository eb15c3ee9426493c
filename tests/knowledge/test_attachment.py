from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pyg_kd.knowledge import (
    Trajectory,
    TrajectoryRecorder,
    attach_trajectories,
    extract_knowledge,
    load_knowledge,
    save_knowledge,
)
from pyg_kd.knowledge.requirements import graph_fingerprint
from pyg_kd.models import MF
from pyg_kd.typing import INTERACTS


@pytest.fixture
def trajectories(data) -> list[Trajectory]:
    def lists(*shape: int) -> torch.Tensor:
        ranked = torch.rand(*shape[:2], 31).argsort(2)[:, :, : shape[2]]
        short = torch.arange(shape[2]) >= torch.randint(1, shape[2] + 1, (*shape[:2], 1))
        return ranked.masked_fill(short, -1).to(torch.int32)

    found = graph_fingerprint(data)
    return [Trajectory(lists(23, 4, 20), lists(23, 4, 2), found, name) for name in ("a", "b", "c")]


def test_knowledge_of_other_edges_does_not_stay(data, teacher) -> None:
    graph = extract_knowledge(teacher, data, num_items=3)
    graph[INTERACTS].edge_index = data[INTERACTS].edge_index[:, :-1]
    recorder = TrajectoryRecorder([0, 1], num_items=3, num_states=3)
    for epoch in range(3):
        model = MF(data, 2, init_std=1.0)
        recorder(epoch, model, graph)
    attached = attach_trajectories(graph, [recorder.finish(model, graph)])
    assert "teacher_trajectory" in attached["user"] and "teacher_x" not in attached["user"]
    assert "teacher_fingerprint" not in attached


def test_stacks(data, trajectories) -> None:
    graph = attach_trajectories(data, trajectories)
    items, observed = graph["user"].teacher_trajectory, graph["user"].teacher_observed
    assert items.shape == (23, 3, 4, 20) and observed.shape == (23, 3, 4, 2)
    assert items.dtype == observed.dtype == torch.int32
    for x, t in enumerate(trajectories):
        assert torch.equal(items[:, x], t.items) and torch.equal(observed[:, x], t.observed)
    assert graph.graph_fingerprint == graph_fingerprint(data)
    assert graph.trajectory_fingerprints == ["a", "b", "c"]
    assert set(data["user"].keys()) == {"num_nodes"} and "graph_fingerprint" not in data


def test_other_knowledge_stays(data, teacher, trajectories) -> None:
    graph = attach_trajectories(extract_knowledge(teacher, data, num_items=5), trajectories)
    assert graph["user"].teacher_items.shape == (23, 5)
    again = extract_knowledge(teacher, graph, num_items=6)
    assert again["user"].teacher_trajectory is graph["user"].teacher_trajectory


def test_first_state_repeated(data, trajectories) -> None:
    short = replace(trajectories[1], **{n: getattr(trajectories[1], n)[:, 2:] for n in LISTS})
    graph = attach_trajectories(data, [trajectories[0], short], pad=True)
    for name, attribute in LISTS.items():
        found, given = graph["user"][attribute][:, 1], getattr(trajectories[1], name)
        assert torch.equal(found, given[:, [2, 2, 2, 3]])
        assert torch.equal(graph["user"][attribute][:, 0], getattr(trajectories[0], name))


LISTS = {"items": "teacher_trajectory", "observed": "teacher_observed"}


@pytest.mark.parametrize("with_teacher", [False, True])
def test_on_disk(data, teacher, trajectories, tmp_path: Path, with_teacher: bool) -> None:
    graph = extract_knowledge(teacher, data, num_items=5) if with_teacher else data
    graph = attach_trajectories(graph, trajectories)
    save_knowledge(graph, tmp_path / "x.safetensors")
    loaded = load_knowledge(tmp_path / "x.safetensors", data)
    for name in LISTS.values():
        assert torch.equal(loaded["user"][name], graph["user"][name])
    assert loaded.trajectory_fingerprints == ["a", "b", "c"]
    assert loaded.graph_fingerprint == graph.graph_fingerprint
    assert ("teacher_fingerprint" in loaded) == ("teacher_items" in loaded["user"]) == with_teacher


def test_nothing_to_attach(data) -> None:
    with pytest.raises(ValueError, match=r"'trajectories' must not be empty \(got \[\]\)"):
        attach_trajectories(data, [])


def test_another_graph(data, trajectories) -> None:
    data[INTERACTS].edge_index = data[INTERACTS].edge_index[:, 1:]
    with pytest.raises(ValueError, match=r"trajectory 0 is from another graph or catalogue"):
        attach_trajectories(data, trajectories)


def test_another_catalogue(data, trajectories) -> None:
    other = data.clone()
    other["item"].num_nodes = 40
    trajectories[1] = replace(trajectories[1], graph_fingerprint=graph_fingerprint(other))
    with pytest.raises(ValueError, match=r"trajectory 1 is from another graph or catalogue"):
        attach_trajectories(data, trajectories)


def test_lists_of_another_length(data, trajectories) -> None:
    trajectories[2] = replace(trajectories[2], items=trajectories[2].items[:, :, :19])
    with pytest.raises(ValueError, match="trajectory 2 ranks 19 items, trajectory 0 ranks 20"):
        attach_trajectories(data, trajectories)


def test_a_teacher_with_fewer_states(data, trajectories) -> None:
    later = {name: getattr(trajectories[0], name)[:, 1:] for name in LISTS}
    trajectories[0] = replace(trajectories[0], **later)
    with pytest.raises(ValueError, match=r"trajectory 0 has 3 states, another has 4.*pad=True"):
        attach_trajectories(data, trajectories)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": lambda x: x[:, :, 0]}, r"'items' of trajectory 1 .*\(got \[23, 4\]"),
        ({"observed": lambda x: x[:, 1:]}, r"'observed' of trajectory 1 .*\(got \[23, 3, 2\]"),
        ({"observed": lambda x: x[:, :, :1]}, "trajectory 1 ranks 1 observed items, .* ranks 2"),
        ({"items": lambda x: x.masked_fill(x < 0, 31)}, r"teacher_trajectory' must hold ids"),
        ({"items": lambda x: x.float()}, "teacher_trajectory' must be int32"),
    ],
)
def test_trajectories_made_by_hand(data, trajectories, change: dict, message: str) -> None:
    made = {name: edit(getattr(trajectories[1], name)) for name, edit in change.items()}
    trajectories[1] = replace(trajectories[1], **made)
    with pytest.raises(ValueError, match=message):
        attach_trajectories(data, trajectories)
