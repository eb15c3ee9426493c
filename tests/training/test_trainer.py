from __future__ import annotations

import copy
import logging
import math
import warnings

import pytest
import torch
from torch import nn
from torch_geometric.data import HeteroData

from pyg_kd import (
    CollaborativeDistillation,
    Distillation,
    RelaxedRankingDistillation,
    TopologyDistillation,
)
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import MF, LightGCN
from pyg_kd.training import Trainer
from pyg_kd.training.validation import Validation
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


class NeverCalled(nn.Module):
    def forward(self, x_dict, batch):
        raise AssertionError("a step was taken")


def test_options_of_another_kind():
    for options in ({"lr": "0.1"}, {"weight_decay": None}, {"seed": None}):
        with pytest.raises(TypeError, match=rf"'{next(iter(options))}' must be a.* \(got "):
            Trainer(**options)


def test_a_frozen_model(train):
    model = MF(train, dim=4).requires_grad_(False)
    with pytest.raises(ValueError, match=r"'model' has no trainable parameters \(got MF\("):
        Trainer(progress=False).fit(model, train)


def test_a_trainer_names_what_was_chosen(tmp_path):
    assert repr(Trainer()) == "Trainer()"
    text = repr(Trainer(lr=0.5, restore_best=False, checkpoint_dir="runs"))
    assert text == "Trainer(lr=0.5, restore_best=False, checkpoint_dir='runs')"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_epochs": 0}, r"'max_epochs' must be a positive integer \(got 0\)"),
        ({"batch_size": -1}, r"'batch_size' must be a positive integer \(got -1\)"),
        ({"batch_size": 1.5}, r"'batch_size' must be a positive integer \(got 1.5\)"),
        ({"num_negatives": 0}, r"'num_negatives' must be a positive integer \(got 0\)"),
        ({"evaluate_every": 0}, r"'evaluate_every' must be a positive integer \(got 0\)"),
        ({"batch_by": "item"}, r"'batch_by' must be one of .*'user'.*\(got 'item'\)"),
        ({"patience": 0}, r"'patience' must be a positive integer \(got 0\)"),
        ({"devices": 0}, r"'devices' must be a positive integer \(got 0\)"),
        ({"lr": 0}, r"'lr' must be positive \(got 0\)"),
        ({"lr": math.nan}, r"'lr' must be positive \(got nan\)"),
        ({"weight_decay": -0.1}, r"'weight_decay' must be 0 or more \(got -0.1\)"),
        ({"base_weight": -1}, r"'base_weight' must be 0 or more \(got -1\)"),
        ({"loss": "hinge"}, r"'loss' must be one of \('bpr', .*'own'\).*\(got 'hinge'\)"),
        ({"seed": 2**62}, r"'seed' must lie in -2\*\*42..2\*\*42 \(got 4611686018427387904\)"),
        ({"accelerator": "gppu"}, r"'accelerator' must be one of .*'cpu'.* \(got 'gppu'\)"),
        ({"precision": "half-ish"}, r"'precision' must be one of .*-mixed.*\(got 'half-ish'\)"),
        ({"strategy": "foo"}, r"'strategy' must be one of .*'ddp'.* \(got 'foo'\)"),
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
    with pytest.raises(ValueError, match=r"'resume' needs a Trainer with a 'checkpoint_dir'"):
        run.fit(model, graph, resume=True)
    graph["user"].num_nodes = 61
    graph[INTERACTS].edge_index = torch.cat(
        [graph[INTERACTS].edge_index, torch.tensor([[60], [0]])], dim=1
    )
    with pytest.raises(ValueError, match=r"'data' has 61 users and 50 items, the model was built"):
        run.fit(model, graph)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_trained(train, mode):
    with mode(), pytest.raises(RuntimeError, match=r"outside of torch.no_grad\(\)"):
        trainer(loss=NeverCalled()).fit(model_of(train), train)


@pytest.mark.parametrize("seed", [-(2**42), 2**42])
def test_the_largest_seeds(train, seed):
    assert len(trainer(max_epochs=1, seed=seed).fit(model_of(train), train)) == 1


def test_global_random_state_is_untouched(graph, val):
    model = model_of(graph)
    state = torch.get_rng_state()
    trainer(loss="sampled_softmax").fit(model, graph, val_data=val, distillations=methods())
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
    # Losses of rows and lists are computed in float32 all the same.
    assert half["TopologyDistillation"] != full["TopologyDistillation"]


def test_progress_bar(train, capfd):
    trainer(progress=True, max_epochs=2).fit(model_of(train), train)
    out, err = capfd.readouterr()
    assert out == ""
    assert "MF: 10/10 (100 %) in " in err and "loss=" in err


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_silence_without_progress(graph, val, capfd, caplog, precision):
    level = logging.getLogger("lightning_fabric").level
    trainer(precision=precision).fit(model_of(graph), graph, val_data=val, distillations=methods())
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert logging.getLogger("lightning_fabric").level == level


class Distance(MF):
    """A model of another score, with an objective of its own."""

    default_loss = "own"
    inner_product = False
    latent = False

    def own_loss(self, x_dict, data, batch):
        return (x_dict["user"][batch.user] - x_dict["item"][batch.positive]).square().sum()

    def score_block(self, x_user, x_item):
        return -torch.cdist(x_user, x_item)


def test_a_models_own_loss(train):
    torch.manual_seed(0)
    model = Distance(train, 4, init_std=1.0)
    history = Trainer(max_epochs=5, lr=0.1, progress=False, accelerator="cpu").fit(model, train)
    assert history["loss"][-1] < 0.9 * history["loss"][0]


def test_no_loss_of_its_own(train):
    with pytest.raises(ValueError, match="MF has no loss of its own"):
        Trainer(max_epochs=1, progress=False, loss="own").fit(MF(train, 4), train)


def test_nothing_to_train(train):
    class Fixed(MF):
        trainable = False

    with pytest.raises(ValueError, match="Fixed needs no training: it is computed from its graph"):
        trainer(loss=NeverCalled()).fit(Fixed(train, 4), train)


@pytest.mark.parametrize("kind", [RelaxedRankingDistillation, CollaborativeDistillation])
def test_scores_that_ranking_methods_cannot_teach(graph, kind):
    with pytest.raises(ValueError, match=rf"{kind.__name__}.*score of Distance"):
        Trainer(max_epochs=1, progress=False).fit(
            Distance(graph, 4), graph, distillations=[(kind(), 1.0)]
        )


def test_a_teacher_without_a_space(train):
    graph = extract_knowledge(Distance(train, 4, init_std=1.0), train, num_items=5)
    assert "teacher_x" not in graph["user"] and "teacher_x" not in graph["item"]
    assert graph["user"].teacher_items.shape == (train["user"].num_nodes, 5)


def weak(caught) -> list[str]:
    return [str(w.message) for w in caught if "the teacher is no better" in str(w.message)]


def test_a_teacher_that_is_no_better_than_its_student(graph, val):
    """The fixture's teacher is untrained: a few epochs are enough to reach it."""
    with pytest.warns(UserWarning) as caught:
        history = trainer(max_epochs=3).fit(
            model_of(graph), graph, val_data=val, distillations=methods()
        )
    teacher = Validation(graph, val, "recall@20").of_teacher(graph)
    values = (
        f"recall@20 is {teacher:.4f} for the teacher's lists and {max(history['recall@20']):.4f}"
    )
    assert len(weak(caught)) == 1 and values in weak(caught)[0]
    assert caught[0].filename == __file__


def test_a_teacher_that_is_better_or_not_comparable(graph, train, val):
    teacher = model_of(train, LightGCN, dim=16)
    trainer(max_epochs=30, patience=None, lr=0.05).fit(teacher, train, val_data=val)
    better = extract_knowledge(teacher, train, num_items=25)
    short = extract_knowledge(LightGCN(train, dim=6), train, num_items=19)
    topology = methods()[:1]
    runs = [
        (better, {"val_data": val, "distillations": methods()}, {"max_epochs": 1, "lr": 1e-6}),
        (graph, {"distillations": methods()}, {}),
        (graph, {"val_data": val}, {}),
        (short, {"val_data": val, "distillations": topology}, {}),
        (
            graph,
            {"val_data": val, "distillations": methods()},
            {"evaluator": lambda *_: {"recall@20": 1.0}},
        ),
    ]
    for data, arguments, options in runs:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer(**options).fit(model_of(data), data, **arguments)
        assert weak(caught) == []


def test_progress_names_the_role(graph, capfd):
    trainer(progress=True, max_epochs=1).fit(model_of(graph), graph, distillations=methods())
    out, err = capfd.readouterr()
    assert out == "" and "student MF: 5/5 (100 %)" in err and "\r" not in err
