"""When a run ends, and with which weights."""

from __future__ import annotations

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.data import HeteroData

from pyg_kd import Distillation, RelaxedRankingDistillation, TopologyDistillation
from pyg_kd.evaluation import evaluate
from pyg_kd.models import MF
from pyg_kd.training import BPR, Trainer, TrainingDiverged
from pyg_kd.typing import INTERACTS

OPTIONS = {"batch_size": 128, "accelerator": "cpu", "progress": False}


def trainer(**options) -> Trainer:
    return Trainer(**OPTIONS | {"max_epochs": 3} | options)


def model_of(data: HeteroData, kind: type = MF, dim: int = 6):
    torch.manual_seed(3)
    return kind(data, dim=dim)


def methods() -> list[tuple[Distillation, float]]:
    ranking = RelaxedRankingDistillation(num_interesting=6, num_uninteresting=6)
    return [(TopologyDistillation(num_groups=4), 1e-3), (ranking, 1e-2)]


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Scripted:
    """An evaluator that returns given values, and keeps the weights it saw."""

    def __init__(self, *values: float) -> None:
        self.values, self.seen = list(values), []

    def __call__(self, model, data, val_data):
        assert not model.training
        self.seen.append(weights(model))
        return {"recall@20": self.values[len(self.seen) - 1], "other": 1.0}


class Broken(BPR):
    """NaN from a given batch on."""

    def __init__(self, good_batches: int) -> None:
        super().__init__()
        self.left = good_batches

    def forward(self, x_dict, batch):
        self.left -= 1
        return super().forward(x_dict, batch) * (1.0 if self.left >= 0 else math.nan)


class Breaking(Broken):
    """NaN gradients from a given batch on, in which the model is lost."""

    def forward(self, x_dict, batch):
        loss = super().forward(x_dict, batch)
        return loss if self.left >= 0 else sum(x.sum() for x in x_dict.values()) * math.nan


@pytest.mark.parametrize("metric", ["recall@20", "ndcg@7"])
def test_default_validation_is_the_evaluation(train, val, metric):
    name, k = metric.split("@")
    own = trainer(max_epochs=4, metric=metric).fit(model_of(train), train, val_data=val)
    evaluator = partial(evaluate, k=(int(k),), metrics=(name,))
    given = trainer(max_epochs=4, metric=metric, evaluator=evaluator).fit(
        model_of(train), train, val_data=val
    )
    np.testing.assert_allclose(own[metric], given[metric], rtol=0, atol=1e-12)
    assert own.best_epoch == given.best_epoch == int(np.argmax(given[metric]))


def test_best_weights_are_restored(train, val):
    evaluator, model = Scripted(0.1, 0.4, 0.3, 0.4), model_of(train)
    history = trainer(max_epochs=4, evaluator=evaluator).fit(model, train, val_data=val)
    assert history["recall@20"] == [0.1, 0.4, 0.3, 0.4]
    assert history.best_epoch == 1  # the first of equals
    assert same(weights(model), evaluator.seen[1])
    assert not same(weights(model), evaluator.seen[3])


def test_last_weights_on_request(train, val):
    evaluator, model = Scripted(0.4, 0.3), model_of(train)
    history = trainer(max_epochs=2, evaluator=evaluator, restore_best=False).fit(
        model, train, val_data=val
    )
    assert history.best_epoch == 0
    assert same(weights(model), evaluator.seen[1])


def test_patience_counts_validations_without_improvement(train, val):
    evaluator = Scripted(0.1, 0.3, 0.2, 0.3, 0.2, 0.9)
    history = trainer(max_epochs=6, patience=3, evaluator=evaluator).fit(
        model_of(train), train, val_data=val
    )
    assert len(history) == len(evaluator.seen) == 5
    assert history.best_epoch == 1


def test_without_patience_all_epochs_run(train, val):
    evaluator = Scripted(*np.linspace(1, 0, 15))
    history = trainer(max_epochs=15, patience=None, evaluator=evaluator).fit(
        model_of(train), train, val_data=val
    )
    assert len(history) == 15


def test_evaluate_every(train, val):
    evaluator = Scripted(0.1, 0.2)
    history = trainer(max_epochs=5, evaluate_every=2, evaluator=evaluator).fit(
        model_of(train), train, val_data=val
    )
    assert [row["epoch"] for row in history if "recall@20" in row] == [1, 3]
    assert history.best_epoch == 3


def test_columns_of_the_history(graph, val):
    history = trainer(max_epochs=2).fit(
        model_of(graph), graph, val_data=val, distillations=methods()
    )
    names = ["epoch", "loss", "TopologyDistillation", "RelaxedRankingDistillation", "seconds"]
    assert history.columns == [*names, "recall@20"]
    assert history["epoch"] == [0, 1]
    assert all(
        type(value) is float for row in history for name, value in row.items() if name != "epoch"
    )
    assert min(history["seconds"]) > 0


def test_metric_of_an_evaluator_has_any_name(train, val):
    history = trainer(
        max_epochs=2, metric="auc", evaluator=lambda *_: {"auc": np.float32(0.5)}
    ).fit(model_of(train), train, val_data=val)
    assert history["auc"] == [0.5, 0.5]
    assert all(type(value) is float for value in history["auc"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ndcg@5": 0.1}, r"must return a number for 'recall@20' \(got \{'ndcg@5': 0.1\}\)"),
        ({"recall@20": math.nan}, r"must return a number for 'recall@20' \(got .*nan"),
        ({"recall@20": 0.1, "loss": 2.0}, r"must not return \['loss'\]"),
    ],
)
def test_values_of_an_evaluator_are_checked(train, val, values, message):
    with pytest.raises(ValueError, match="'evaluator' " + message):
        trainer(evaluator=lambda *_: values).fit(model_of(train), train, val_data=val)


@pytest.mark.parametrize(
    "values", [None, 0.1, [("recall@20", 0.1)], {"recall@20": None}, {"recall@20": torch.ones(2)}]
)
def test_an_evaluator_returns_numbers_by_name(train, val, values):
    with pytest.raises(TypeError, match=r"'evaluator' must return a dictionary of numbers \(got "):
        trainer(evaluator=lambda *_: values).fit(model_of(train), train, val_data=val)


def test_nan_loss_is_named_and_the_best_weights_come_back(train, val):
    evaluator, model = Scripted(0.1, 0.3, 0.2), model_of(train)
    batches = math.ceil(train[INTERACTS].edge_index.size(1) / 128)
    run = trainer(max_epochs=9, loss=Broken(3 * batches + 1), evaluator=evaluator)
    with pytest.raises(
        TrainingDiverged, match=r"^loss is not finite in epoch 3 .*smaller 'lr'"
    ) as e:
        run.fit(model, train, val_data=val)
    assert same(weights(model), evaluator.seen[1])
    assert e.value.history["recall@20"] == [0.1, 0.3, 0.2]
    assert e.value.history.best_epoch == 1


def test_without_validation_the_last_sound_weights_come_back(train):
    seen, model = [], model_of(train)
    batches = math.ceil(train[INTERACTS].edge_index.size(1) / 128)
    run = trainer(max_epochs=9, loss=Breaking(2 * batches + 1))
    with pytest.raises(
        TrainingDiverged, match=r"'lr'.*The model has finite weights again, those after epoch 1$"
    ):
        run.fit(model, train, callbacks=[lambda epoch, model, data: seen.append(weights(model))])
    assert len(seen) == 2 and same(weights(model), seen[1])


@pytest.mark.parametrize("restore_best", [True, False])
def test_weights_after_divergence_are_finite_with_validation(train, val, restore_best):
    evaluator, model = Scripted(0.3, 0.2), model_of(train)
    batches = math.ceil(train[INTERACTS].edge_index.size(1) / 128)
    run = trainer(
        max_epochs=9,
        loss=Breaking(2 * batches + 1),
        evaluator=evaluator,
        restore_best=restore_best,
    )
    name = "the best, of epoch 0" if restore_best else "those after epoch 1"
    with pytest.raises(TrainingDiverged, match=rf"finite weights again, {name}$"):
        run.fit(model, train, val_data=val)
    assert same(weights(model), evaluator.seen[0 if restore_best else 1])


def test_divergence_in_the_first_epoch_gives_the_initial_weights_back(train):
    model = model_of(train)
    before = copy.deepcopy(dict(model.named_parameters()))
    with pytest.raises(TrainingDiverged, match=r"finite weights again, those before training$"):
        trainer(lr=1e30).fit(model, train)
    assert same(dict(model.named_parameters()), before)


class Featured(MF):
    """Adds features of the graph to the embeddings of items."""

    def forward(self, data):
        x_dict = super().forward(data)
        return x_dict | {"item": x_dict["item"] + data["item"].x}


def test_features_that_are_not_finite_are_named(train):
    train["item"].x = torch.zeros(50, 6)
    train["item"].x[3, 2] = math.nan
    with pytest.raises(
        TrainingDiverged, match=r"data\['item'\].x had NaN or infinite values before training\. The"
    ) as e:
        trainer().fit(model_of(train, Featured), train)
    assert "lr" not in str(e.value)


def test_weights_that_were_not_finite_are_named(train):
    model = model_of(train)
    with torch.no_grad():
        model.user_embedding[0, 0] = math.inf
    with pytest.raises(TrainingDiverged, match=r": user_embedding had NaN or inf") as e:
        trainer().fit(model, train)
    assert "finite weights" not in str(e.value) and "lr" not in str(e.value)


def test_features_are_not_blamed_once_an_epoch_went_well(train):
    train["item"].unread = torch.full((50, 2), math.nan)
    batches = math.ceil(train[INTERACTS].edge_index.size(1) / 128)
    with pytest.raises(TrainingDiverged, match=r"epoch 1 .*try a smaller 'lr'"):
        trainer(max_epochs=9, loss=Breaking(batches + 1)).fit(model_of(train), train)


def test_the_method_that_diverges_is_named(graph):
    class Exploding(Distillation):
        def forward(self, x_dict, graph, batch):
            return x_dict["user"].sum() * math.inf

    with pytest.raises(TrainingDiverged, match=r"Exploding is not finite in epoch 0"):
        trainer().fit(model_of(graph), graph, distillations=[*methods(), (Exploding(), 0.0)])


def test_huge_learning_rate_diverges(train):
    with pytest.raises(TrainingDiverged, match=r"not finite.*'lr' \(now 1e\+30\)"):
        trainer(lr=1e30).fit(model_of(train), train)


def test_weights_that_break_in_the_last_step(train):
    class LastStep(BPR):
        def forward(self, x_dict, batch):
            x_dict["item"].register_hook(lambda grad: grad * math.nan)
            return super().forward(x_dict, batch)

    one_batch = trainer(batch_size=10_000, max_epochs=1, loss=LastStep())
    with pytest.raises(TrainingDiverged, match=r"representations of 'item' are not finite"):
        one_batch.fit(model_of(train), train)


def test_collapse_is_noticed(train):
    class Same(nn.Module):
        def forward(self, x_dict, batch):
            return sum((x - 1).square().sum() for x in x_dict.values())

    with pytest.raises(TrainingDiverged, match=r"representations of 'user' are all the same.*'lr'"):
        trainer(max_epochs=200, lr=0.05, loss=Same()).fit(model_of(train), train)
