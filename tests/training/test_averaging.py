"""The average of the weights, against a sum over all steps in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd import RelaxedRankingDistillation
from pyg_kd.models import MF, LightGCN
from pyg_kd.training import Trainer, TrainingDiverged
from pyg_kd.training.averaging import WeightAverage
from pyg_kd.training.row_adam import RowAdam


def averaged(weights: list[np.ndarray], span: float, steps: int) -> np.ndarray:
    """The average after the last of ``weights``, by its definition."""
    share = np.exp(-np.arange(len(weights))[::-1] / (span * steps))
    return np.tensordot(share / share.sum(), np.stack(weights).astype(np.float64), 1)


@given(
    span=st.floats(1e-3, 1e6),
    steps=st.integers(1, 20),
    first=st.integers(0, 5),
    count=st.integers(1, 12),
    seed=st.integers(0, 9),
)
def test_the_average_is_the_weighted_mean_of_the_steps(span, steps, first, count, seed) -> None:
    weights = np.random.default_rng(seed).normal(size=(count, 2, 3)).astype(np.float32)
    model = torch.nn.Linear(3, 2, bias=False)
    average = WeightAverage(model, span, steps, first)
    for step, weight in enumerate(weights):
        with torch.no_grad():
            model.weight.copy_(torch.from_numpy(weight))
        average.update(step)
    with average.applied():
        found = model.weight.detach().numpy().copy()
    taken = list(weights[first:]) or [weights[-1]]  # in the warm-up, the weights themselves
    np.testing.assert_allclose(found, averaged(taken, span, steps), rtol=1e-4, atol=1e-5)
    assert np.array_equal(model.weight.detach().numpy(), weights[-1])


@pytest.mark.parametrize("span", [5e-324, 1e308])
def test_extreme_spans(span) -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, span, 100)
    for step in range(4):
        torch.nn.init.constant_(model.weight, step)
        average.update(step)
    with average.applied():
        assert model.weight.item() == pytest.approx(3.0 if span < 1 else 1.5)


def test_weights_in_half_precision_are_averaged_in_float32() -> None:
    model = torch.nn.Linear(1, 1, bias=False).bfloat16()
    average, values = WeightAverage(model, 10.0, 100), 1 + np.arange(200) % 2 / 128
    for step, value in enumerate(values):
        torch.nn.init.constant_(model.weight, value)
        average.update(step)
    found = average.tensors["weight"]
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(averaged(list(values), 10.0, 100), abs=1e-6)


def test_frozen_weights_are_left_alone() -> None:
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    average = WeightAverage(model, 1.0)
    average.update(0)
    assert average.tensors.keys() == average.expected().keys() == {"weight"}


def test_an_error_inside_brings_the_weights_back() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, 1.0)
    for step in range(2):
        torch.nn.init.constant_(model.weight, step)
        average.update(step)
    with pytest.raises(KeyError), average.applied():
        raise KeyError
    assert model.weight.item() == 1.0
    average.settle()
    assert 0 < model.weight.item() < 1
    assert not average.tensors


@pytest.fixture
def recorded(monkeypatch):
    """The users' table after every step of a run."""
    weights, step = [], RowAdam.advance

    def stepped(self, *args, **kwargs):
        out = step(self, *args, **kwargs)
        tables = self.param_groups[0]["params"]
        weights.append(tables[0].detach().numpy().copy())
        return out

    monkeypatch.setattr(RowAdam, "advance", stepped)
    return weights


def fit(data, *, seed=0, val=None, callbacks=(), resume=False, kind=MF, pairs=(), **options):
    torch.manual_seed(seed)
    model = kind(data, dim=6)
    options = {"batch_size": 100, "max_epochs": 4, "progress": False} | options
    trainer = Trainer(accelerator="cpu", **options)
    history = trainer.fit(
        model, data, val_data=val, callbacks=callbacks, resume=resume, distillations=pairs
    )
    return model.user_embedding.detach().clone(), history


def assert_equal(found, expected) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_run_ends_with_its_average(train, recorded) -> None:
    plain, _ = fit(train)
    raw = list(recorded)
    recorded.clear()
    found, _ = fit(train, average=0.5)
    steps = len(raw) // 4
    assert np.array_equal(raw, recorded)  # training does not notice
    assert_equal(plain, raw[-1])
    assert_equal(found, averaged(raw, 0.5, steps))


def test_the_average_is_what_is_validated_and_kept(train, val, recorded) -> None:
    seen, shown = [], []

    def evaluator(model, data, val_data):
        seen.append(model.user_embedding.detach().clone())
        return {"recall@20": [0.1, 0.4, 0.3, 0.2][len(seen) - 1]}

    def callback(epoch, model, data):
        shown.append(model.user_embedding.detach().clone())

    options = {"average": 1.0, "warmup": 0.125, "evaluator": evaluator}
    found, history = fit(train, val=val, callbacks=[callback], **options)
    steps = len(recorded) // 4
    first = round(0.125 * 4 * steps)
    for epoch in range(4):
        last = (epoch + 1) * steps
        assert_equal(seen[epoch], averaged(recorded[first:last], 1.0, steps))
        assert torch.equal(seen[epoch], shown[epoch])
    assert history.best_epoch == 1
    assert torch.equal(found, seen[1])
    seen.clear()
    found, _ = fit(train, val=val, restore_best=False, **options)
    assert torch.equal(found, seen[3])


def test_without_an_average_nothing_is_held(train, monkeypatch) -> None:
    held = []
    monkeypatch.setattr(WeightAverage, "settle", lambda self: held.append(self.tensors))
    fit(train, max_epochs=1)
    fit(train, max_epochs=1, average=1.0, warmup=1.0)  # the warm-up never ends
    fit(train, max_epochs=1, average=1.0)
    assert [list(tensors) for tensors in held] == [[], [], ["user_embedding", "item_embedding"]]


def test_a_resumed_run_has_the_same_average(train, val, tmp_path) -> None:
    options = {"average": 0.7, "warmup": 0.2, "schedule": "cosine", "kind": LightGCN}
    whole, history = fit(train, val=val, **options)

    def stop(epoch, model, data):
        if epoch == 2:
            raise KeyboardInterrupt

    options["checkpoint_dir"] = tmp_path
    with pytest.raises(KeyboardInterrupt):
        fit(train, val=val, callbacks=[stop], **options)
    found, again = fit(train, val=val, seed=9, resume=True, **options)
    assert torch.equal(found, whole)
    assert again["recall@20"] == history["recall@20"]
    assert again.best_epoch == history.best_epoch
    with pytest.raises(ValueError, match=r"from another run: average was 0\.7, is None"):
        fit(train, val=val, resume=True, **options | {"average": None})


def test_a_checkpoint_with_another_average_is_refused(train, tmp_path, monkeypatch) -> None:
    options = {"average": 1.0, "checkpoint_dir": tmp_path}
    with monkeypatch.context() as patch:
        patch.setattr(WeightAverage, "update", lambda self, step: self.tensors.update(x=self._x))
        patch.setattr(WeightAverage, "_x", torch.zeros(3), raising=False)
        fit(train, max_epochs=1, **options)
    with pytest.raises(ValueError, match=r"'user_embedding' is missing there, \[60, 6\]"):
        fit(train, resume=True, **options)


def test_a_run_that_is_interrupted_leaves_its_average(train, recorded) -> None:
    def stop(epoch, model, data):
        if epoch == 1:
            raise KeyboardInterrupt

    torch.manual_seed(0)
    model = MF(train, dim=6)
    trainer = Trainer(batch_size=100, progress=False, accelerator="cpu", average=0.5)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(model, train, callbacks=[stop])
    expected = averaged(recorded, 0.5, len(recorded) // 2)
    assert_equal(model.user_embedding.detach(), expected)


class Breaking(torch.nn.Module):
    """A loss that is finite for some calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    def forward(self, x_dict, batch):
        self.left -= 1
        loss = (x_dict["user"][batch.user] * x_dict["item"][batch.positive]).sum().square()
        return loss * (1.0 if self.left >= 0 else torch.nan)


def test_a_run_that_diverges_goes_back_to_a_sound_average(train, recorded) -> None:
    steps = -(-train["user", "item"].num_edges // 100)
    torch.manual_seed(0)
    model = MF(train, dim=6)
    options = {"batch_size": 100, "progress": False, "accelerator": "cpu", "average": 0.5}
    with pytest.raises(TrainingDiverged):
        Trainer(loss=Breaking(2 * steps), **options).fit(model, train)
    expected = averaged(recorded[: 2 * steps], 0.5, steps)
    assert_equal(model.user_embedding.detach(), expected)


def test_students_of_a_teacher_are_averaged(graph, val, recorded) -> None:
    ranking = RelaxedRankingDistillation(num_interesting=6, num_uninteresting=6)
    found, _ = fit(graph, average=0.5, pairs=[(ranking, 0.01)])
    assert_equal(found, averaged(recorded, 0.5, len(recorded) // 4))


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_bad_spans(value) -> None:
    with pytest.raises(ValueError, match="'average' must be positive"):
        Trainer(average=value)
    with pytest.raises(TypeError, match=r"'average' must be a number .got '1'"):
        Trainer(average="1")
