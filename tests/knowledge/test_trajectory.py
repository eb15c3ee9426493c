from __future__ import annotations

import pytest
import torch

from pyg_kd.knowledge import TrajectoryRecorder, extract_knowledge
from pyg_kd.knowledge.fingerprint import graph_fingerprint, model_fingerprint
from pyg_kd.knowledge.observed_ranking import rank_observed
from pyg_kd.models import MF
from pyg_kd.training import Trainer


def lists(model, data, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    graph = extract_knowledge(model, data, num_items=k)
    most = int(data["user", "item"].edge_index.unique(dim=1)[0].bincount().max())
    return graph["user"].teacher_items, rank_observed(model, data, min(k, most))


def recorded(recorder: TrajectoryRecorder, data, epochs: int, **finish):
    """A recorder that saw a model whose weights tell the epoch, and those lists of each."""
    seen = {}
    for epoch in range(epochs):
        torch.manual_seed(epoch)
        model = MF(data, 4)
        recorder(epoch, model, data)
        seen[epoch] = lists(model, data, recorder.num_items)
    torch.manual_seed(99)
    model = MF(data, 4)
    seen["final"] = lists(model, data, recorder.num_items)
    return recorder.finish(model, data, **finish), seen, model


def assert_states(trajectory, seen, states) -> None:
    assert trajectory.items.dtype == trajectory.observed.dtype == torch.int32
    assert trajectory.items.size(1) == trajectory.observed.size(1) == len(states)
    for v, state in enumerate(states):
        assert torch.equal(trajectory.items[:, v], seen[state][0])
        assert torch.equal(trajectory.observed[:, v], seen[state][1])


@pytest.mark.parametrize(
    ("epochs", "trained", "states"),
    [
        (None, 9, [0, 1, 3, "final"]),  # 0, 1, 3, 7 are kept
        (None, 20, [0, 1, 7, "final"]),  # and 15
        ([2, 5, 6], 9, [2, 5, 6, "final"]),
        ([8, 1, 2, 4, 6, 0], 9, [0, 2, 6, "final"]),
    ],
)
def test_states(data, epochs, trained, states) -> None:
    recorder = TrajectoryRecorder(epochs, num_items=12)
    trajectory, seen, model = recorded(recorder, data, trained)
    assert trajectory.items.shape == (23, 4, 12) and trajectory.observed.shape[:2] == (23, 4)
    assert_states(trajectory, seen, states)
    assert trajectory.graph_fingerprint == graph_fingerprint(data)
    assert trajectory.teacher_fingerprint == model_fingerprint(model)


def test_states_before_the_best_epoch(data) -> None:
    recorder = TrajectoryRecorder(range(9), num_items=20, num_states=3)
    trajectory, seen, _ = recorded(recorder, data, 9, before=4)
    assert_states(trajectory, seen, [0, 2, "final"])


def test_the_final_state_is_no_early_one(data, teacher) -> None:
    recorder = TrajectoryRecorder(range(4), num_items=12, num_states=3)
    other = MF(data, 4)
    for epoch in range(3):
        recorder(epoch, other if epoch == 0 else teacher, data)
    with pytest.raises(ValueError, match=r"has 1 early states \(epochs \[0\]\)"):
        recorder.finish(teacher, data)
    recorder(3, MF(data, 5), data)
    assert recorder.finish(teacher, data).items.size(1) == 3


def test_a_model_in_closed_form_has_one_state(data, teacher) -> None:
    recorder = TrajectoryRecorder(num_items=5, num_states=1)
    trajectory = recorder.finish(teacher, data)
    assert_states(trajectory, {"final": lists(teacher, data, 5)}, ["final"])


def test_as_a_callback(data) -> None:
    torch.manual_seed(0)
    teacher, recorder = MF(data, 6), TrajectoryRecorder([0, 2, 3], num_items=10)
    options = {"max_epochs": 5, "batch_size": 64, "accelerator": "cpu", "progress": False}
    Trainer(**options, lr=0.1).fit(teacher, data, callbacks=[recorder])
    trajectory = recorder.finish(teacher, data)
    assert torch.equal(trajectory.items[:, -1], lists(teacher, data, 10)[0])
    states = [trajectory.items[:, v].tolist() for v in range(4)]
    assert all(a != b for i, a in enumerate(states) for b in states[:i])


def test_too_few_states(data) -> None:
    with pytest.raises(ValueError, match=r"has 2 early states \(epochs \[0, 1\]\).*takes 3"):
        recorded(TrajectoryRecorder(num_items=5), data, 3)
    with pytest.raises(ValueError, match=r"has 1 early states \(epochs \[0\]\)"):
        recorded(TrajectoryRecorder(num_items=5), data, 9, before=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_items": 0}, r"'num_items' must be a positive integer \(got 0\)"),
        ({"num_states": 0}, r"'num_states' must be a positive integer \(got 0\)"),
        ({"epochs": [1, 2, 2]}, r"'epochs' must name 3 epochs or more \(got \[1, 2, 2\]\)"),
        ({"epochs": [-1, 2, 3]}, r"'epochs' must name 3 .*\(got \[-1, 2, 3\]\)"),
    ],
)
def test_refused_options(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        TrajectoryRecorder(**options)


def test_lists_longer_than_the_catalogue(data, teacher) -> None:
    with pytest.raises(ValueError, match=r"'num_items' must lie in 0\.\.31 \(got 32\)"):
        TrajectoryRecorder(num_items=32)(0, teacher, data)
