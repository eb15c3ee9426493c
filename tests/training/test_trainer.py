from __future__ import annotations

import copy
import logging
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.data import HeteroData

from pyg_kd import Distillation, RelaxedRankingDistillation, TopologyDistillation
from pyg_kd.evaluation import evaluate
from pyg_kd.models import MF, LightGCN
from pyg_kd.training import BPR, SampledSoftmax, Trainer, TrainingDiverged
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


# --- Learning ---------------------------------------------------------------


@pytest.mark.parametrize("kind", [MF, LightGCN])
@pytest.mark.parametrize("loss", ["bpr", "sampled_softmax", SampledSoftmax(negatives="both")])
def test_loss_falls_and_ranking_improves(train, val, kind, loss):
    model = model_of(train, kind)
    before = evaluate(model, train, val, 20)["recall@20"]
    history = trainer(max_epochs=8, loss=loss).fit(model, train, val_data=val)
    assert history["loss"][-1] < 0.95 * history["loss"][0]
    assert evaluate(model, train, val, 20)["recall@20"] > before


def test_a_student_follows_its_teacher(graph):
    history = trainer(max_epochs=8, base_weight=0).fit(
        model_of(graph), graph, distillations=[(methods()[1][0], 1.0)]
    )
    name = "RelaxedRankingDistillation"
    assert history[name][-1] < 0.9 * history[name][0]


def test_loss_is_the_mean_over_all_interactions(train):
    # So small a rate that the weights of the first batch are those of the last.
    model = model_of(train)
    history = trainer(max_epochs=1, lr=1e-12, num_negatives=2).fit(model, train)
    # All scores are about 0, so each of the two triples of an interaction costs log 2.
    assert history["loss"] == [pytest.approx(2 * math.log(2), rel=1e-3)]


def test_default_loss_is_the_models_own(train):
    first, second = model_of(train, LightGCN), model_of(train, LightGCN)
    trainer(max_epochs=1).fit(first, train)
    trainer(max_epochs=1, loss="sampled_softmax").fit(second, train)
    assert same(weights(first), weights(second))


def test_weight_decay_shrinks(train):
    free, decayed = model_of(train), model_of(train)
    trainer().fit(free, train)
    trainer(weight_decay=0.5).fit(decayed, train)
    assert decayed.user_embedding.norm() < free.user_embedding.norm()


# --- Validation and stopping --------------------------------------------------


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


# --- Divergence ------------------------------------------------------------------


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


# --- Errors before any step ----------------------------------------------------------


class NeverCalled(nn.Module):
    def forward(self, x_dict, batch):
        raise AssertionError("a step was taken")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_epochs": 0}, r"'max_epochs' must be a positive integer \(got 0\)"),
        ({"batch_size": -1}, r"'batch_size' must be a positive integer \(got -1\)"),
        ({"batch_size": 1.5}, r"'batch_size' must be a positive integer \(got 1.5\)"),
        ({"num_negatives": 0}, r"'num_negatives' must be a positive integer \(got 0\)"),
        ({"evaluate_every": 0}, r"'evaluate_every' must be a positive integer \(got 0\)"),
        ({"patience": 0}, r"'patience' must be a positive integer \(got 0\)"),
        ({"devices": 0}, r"'devices' must be a positive integer \(got 0\)"),
        ({"lr": 0}, r"'lr' must be positive \(got 0\)"),
        ({"lr": math.nan}, r"'lr' must be positive \(got nan\)"),
        ({"weight_decay": -0.1}, r"'weight_decay' must not be negative \(got -0.1\)"),
        ({"base_weight": -1}, r"'base_weight' must not be negative \(got -1\)"),
        ({"loss": "hinge"}, r"'loss' must be one of \('bpr', 'sampled_softmax'\).*\(got 'hinge'\)"),
        ({"metric": "auc@5"}, r"'metric' must look like 'recall@20'.*\(got 'auc@5'\)"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        trainer(**options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_cuda():
    with pytest.raises(ValueError, match=r"'accelerator' is 'cuda', but PyTorch finds no CUDA"):
        trainer(accelerator="cuda")


def test_user_without_training_edge(train):
    edge_index = train[INTERACTS].edge_index
    train[INTERACTS].edge_index = edge_index[:, (edge_index[0] != 7) & (edge_index[0] != 9)]
    with pytest.raises(
        ValueError, match=r"2 users of 'data' have no training edge, the first is 7"
    ):
        trainer(loss=NeverCalled()).fit(model_of(train), train)


def test_missing_knowledge(train):
    with pytest.raises(ValueError, match=r"needs 'graph\['user'\].teacher_x'.*extract_knowledge"):
        trainer(loss=NeverCalled()).fit(model_of(train), train, distillations=methods())


def test_knowledge_of_another_graph(graph):
    graph[INTERACTS].edge_index = graph[INTERACTS].edge_index[:, 1:]
    with pytest.raises(ValueError, match=r"'graph' carries knowledge of another graph"):
        trainer(loss=NeverCalled()).fit(model_of(graph), graph, distillations=methods())


def test_wrong_arguments(graph, val):
    model, run = model_of(graph), trainer(loss=NeverCalled())
    with pytest.raises(TypeError, match=r"'distillations' must hold \(method, weight\) pairs"):
        run.fit(model, graph, distillations=[methods()[0][0]])
    with pytest.raises(ValueError, match=r"weight of Topology.* \(got -1\)"):
        run.fit(model, graph, distillations=[(methods()[0][0], -1)])
    with pytest.raises(TypeError, match=r"'model' must be a Recommender \(got Linear\)"):
        run.fit(nn.Linear(2, 2), graph)
    with pytest.raises(TypeError, match=r"'data' must be a HeteroData \(got dict\)"):
        run.fit(model, {})
    with pytest.raises(ValueError, match=r"'val_data' has no 'edge_label_index'"):
        run.fit(model, graph, val_data=graph)
    with pytest.raises(ValueError, match=r"'metric' is 'recall@60', but there are 50 items"):
        trainer(loss=NeverCalled(), metric="recall@60").fit(model, graph, val_data=val)
    with pytest.raises(ValueError, match=r"'resume' needs a trainer with a 'checkpoint_dir'"):
        run.fit(model, graph, resume=True)
    graph["user"].num_nodes = 61
    graph[INTERACTS].edge_index = torch.cat(
        [graph[INTERACTS].edge_index, torch.tensor([[60], [0]])], dim=1
    )
    with pytest.raises(ValueError, match=r"'data' has 61 users and 50 items, the model was built"):
        run.fit(model, graph)


# --- What a run leaves as it was --------------------------------------------------------


def test_global_random_state_is_untouched(graph, val):
    state = torch.get_rng_state()
    trainer().fit(MF(graph, dim=0 + 6), graph, val_data=val, distillations=[])
    after_model = torch.get_rng_state()
    torch.set_rng_state(state)
    MF(graph, dim=6)  # drawing the weights is the caller's doing
    assert torch.equal(torch.get_rng_state(), after_model)
    trainer().fit(model := model_of(graph), graph, val_data=val, distillations=methods())
    torch.manual_seed(3)
    MF(graph, dim=6)
    state = torch.get_rng_state()
    trainer().fit(model, graph, val_data=val, distillations=methods())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("training", [True, False])
def test_graph_and_modes_are_untouched(graph, val, training):
    model, before = model_of(graph).train(training), copy.copy(graph)
    trainer(max_epochs=1).fit(model, graph, val_data=val, distillations=methods())
    assert model.training is training
    assert graph.to_dict().keys() == before.to_dict().keys()
    assert graph[INTERACTS].edge_index is before[INTERACTS].edge_index
    assert graph["user"].teacher_items is before["user"].teacher_items
    assert model.user_embedding.device == torch.device("cpu")


# --- Same seed, same bits ------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MF, LightGCN])
def test_same_seed_same_bits(graph, val, kind):
    results = []
    for noise, seed in ((1, 5), (2, 5), (3, 6)):
        model = model_of(graph, kind)
        torch.manual_seed(noise)  # what came before a run does not count
        history = trainer(seed=seed).fit(model, graph, val_data=val, distillations=methods())
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
        results.append((weights(model), rows))
    assert same(results[0][0], results[1][0]) and results[0][1] == results[1][1]
    assert not same(results[0][0], results[2][0]) and results[0][1] != results[2][1]


def test_methods_start_anew_in_every_run(graph):
    pairs, first, second = methods(), model_of(graph), model_of(graph)
    trainer().fit(first, graph, distillations=pairs)
    trainer().fit(second, graph, distillations=pairs)
    assert same(weights(first), weights(second))


def test_methods_serve_students_of_any_width(graph):
    pairs = methods()
    for dim in (3, 6):
        history = trainer(max_epochs=1).fit(model_of(graph, dim=dim), graph, distillations=pairs)
        assert len(history) == 1


# --- Precision and progress ------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MF, LightGCN])
def test_bfloat16_is_close_to_float32(graph, val, kind):
    full, half = (
        trainer(max_epochs=1, precision=precision).fit(
            model_of(graph, kind), graph, val_data=val, distillations=methods()
        )
        for precision in ("32-true", "bf16-mixed")
    )
    for name in ("loss", "TopologyDistillation", "RelaxedRankingDistillation"):
        assert half[name][0] == pytest.approx(full[name][0], rel=0.03), name
        assert half[name] != full[name], name


def test_progress_bar(train, capfd):
    trainer(progress=True, max_epochs=2).fit(model_of(train), train)
    out, err = capfd.readouterr()
    assert out == ""
    assert "MF: 100%" in err and "10/10" in err and "loss=" in err


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_silence_without_progress(graph, val, capfd, caplog, precision):
    level = logging.getLogger("lightning_fabric").level
    trainer(precision=precision).fit(model_of(graph), graph, val_data=val, distillations=methods())
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert logging.getLogger("lightning_fabric").level == level
