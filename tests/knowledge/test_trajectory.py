from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.knowledge import TrajectoryRecorder, extract_knowledge, trajectory
from pyg_kd.knowledge.requirements import graph_fingerprint, model_fingerprint
from pyg_kd.knowledge.trajectory import rank_observed
from pyg_kd.models import MF
from pyg_kd.training import Trainer
from pyg_kd.typing import INTERACTS


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


def test_another_run_begins_without_the_states_of_the_one_before(data) -> None:
    recorder = TrajectoryRecorder(range(9), num_items=12, num_states=3)
    recorded(recorder, data, 9)
    torch.manual_seed(5)
    trajectory, seen, _ = recorded(recorder, data, 3)
    assert sorted(recorder.states) == [0, 1, 2]
    assert_states(trajectory, seen, [0, 1, "final"])


def test_a_run_that_is_resumed_keeps_the_states_before(data) -> None:
    recorder = TrajectoryRecorder(range(9), num_items=12, num_states=3)
    for epoch in (0, 1, 2, 2, 3):
        recorder(epoch, MF(data, 4), data)
    assert sorted(recorder.states) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "epochs", [torch.arange(3), np.arange(3), (e for e in range(3)), range(3), [0, 1, 2, 2]]
)
def test_epochs_of_any_kind(data, epochs) -> None:
    recorder = TrajectoryRecorder(epochs, num_items=12)
    assert recorded(recorder, data, 3)[0].items.size(1) == 4


@pytest.mark.parametrize("epochs", [5, [0.5, 1, 2], "123", [None, 1, 2], torch.tensor([0.0, 1.0])])
def test_epochs_are_integers(epochs) -> None:
    with pytest.raises(TypeError, match=r"'epochs' must be integers \(got "):
        TrajectoryRecorder(epochs)


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
    with pytest.raises(ValueError, match=r"has 2 early states \(epochs \[0, 1\]\).*needs 3"):
        recorded(TrajectoryRecorder(num_items=5), data, 3)
    with pytest.raises(ValueError, match=r"has 1 early states \(epochs \[0\]\)"):
        recorded(TrajectoryRecorder(num_items=5), data, 9, before=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_items": 0}, r"'num_items' must be a positive integer \(got 0\)"),
        ({"num_states": 0}, r"'num_states' must be a positive integer \(got 0\)"),
        ({"epochs": [1, 2, 2]}, r"'epochs' must be at least 3 epochs from 0 \(got \[1, 2, 2\]\)"),
        ({"epochs": [-1, 2, 3]}, r"'epochs' must be at least 3 .*\(got \[-1, 2, 3\]\)"),
    ],
)
def test_refused_options(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        TrajectoryRecorder(**options)


def test_lists_longer_than_the_catalogue(data, teacher) -> None:
    with pytest.raises(ValueError, match=r"'num_items' must lie in 0\.\.31 \(got 32\)"):
        TrajectoryRecorder(num_items=32)(0, teacher, data)


def oracle(scores: np.ndarray, data: HeteroData, k: int) -> list[list[int]]:
    """The seen columns of each row, best first, the lower id first among equals."""
    out: list[list[int]] = [[] for _ in scores]
    for user, item in data[INTERACTS].edge_index.t().tolist():
        out[user].append(item)
    for row, items in zip(scores, out, strict=True):
        items.sort(key=lambda i, row=row: (-row[i], i))
    return [(items + [-1] * k)[:k] for items in out]


class Distance(MF):
    """The score is no inner product; representations are noise while training."""

    inner_product = False

    def forward(self, data: HeteroData) -> dict[str, Tensor]:
        drop = torch.nn.functional.dropout
        return {key: drop(x, 0.5, self.training) for key, x in super().forward(data).items()}

    def score(self, x_dict: dict[str, Tensor], edge_index: Tensor) -> Tensor:
        user, item = x_dict["user"][edge_index[0]], x_dict["item"][edge_index[1]]
        return -(user - item).square().sum(1)

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        return -(x_user.unsqueeze(1) - x_item).square().sum(2)


@pytest.mark.parametrize("k", [1, 4, 31])
def test_equal_scores_and_short_lists(data, teacher, k: int) -> None:
    ranked = rank_observed(teacher, data, k)
    assert ranked.dtype == torch.int32 and ranked.shape == (23, k)
    x = {key: v.detach().numpy() for key, v in teacher(data).items()}
    assert ranked.tolist() == oracle(x["user"] @ x["item"].T, data, k)


def test_a_score_that_is_no_inner_product_in_chunks(data, monkeypatch) -> None:
    monkeypatch.setattr(trajectory, "CHUNK", 13)
    teacher = Distance(data, 4).train()
    user, item = (x.detach().numpy() for x in teacher.parameters())
    scores = -((user[:, None] - item) ** 2).sum(2)
    assert rank_observed(teacher, data, 5).tolist() == oracle(scores, data, 5)
    assert teacher.training


def test_users_without_items_and_edges_given_twice(data, teacher) -> None:
    edges = data[INTERACTS].edge_index
    data[INTERACTS].edge_index = edges[:, edges[0] != 22]
    expected = rank_observed(teacher, data, 4)
    assert expected[22].tolist() == [-1] * 4
    data[INTERACTS].edge_index = data[INTERACTS].edge_index.repeat(1, 2)
    assert torch.equal(rank_observed(teacher, data, 4), expected)


def test_differences_that_only_float64_sees(data) -> None:
    teacher = MF(data, 1).double()
    with torch.no_grad():
        teacher.user_embedding.fill_(1)
        teacher.item_embedding.copy_(1 + 1e-12 * torch.arange(31.0, dtype=torch.double)[:, None])
    ranked = rank_observed(teacher, data, 3)
    assert bool((ranked[:, :-1] > ranked[:, 1:]).all())


def test_nan(data, teacher) -> None:
    with torch.no_grad():
        teacher.item_embedding[3] = torch.nan
    with pytest.raises(ValueError, match="MF scores a training edge as NaN"):
        rank_observed(teacher, data, 3)
