from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch_geometric.data import HeteroData

from pyg_kd import Distillation, RelaxedRankingDistillation, TopologyDistillation
from pyg_kd.evaluation import evaluate
from pyg_kd.models import MF, LightGCN
from pyg_kd.training import BPR, SampledSoftmax, Trainer

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


@pytest.mark.parametrize("kind", [MF, LightGCN])
@pytest.mark.parametrize("loss", ["bpr", "sampled_softmax", SampledSoftmax(negatives="both")])
def test_loss_falls_and_ranking_improves(train, val, kind, loss):
    model = model_of(train, kind)
    before = evaluate(model, train, val, 20)["recall@20"]
    history = trainer(max_epochs=8, loss=loss).fit(model, train, val_data=val)
    assert history["loss"][-1] < 0.95 * history["loss"][0]
    assert evaluate(model, train, val, 20)["recall@20"] > before


def test_a_student_follows_its_teacher(graph):
    history = trainer(max_epochs=12, base_weight=0).fit(
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


def test_batches_of_users(train):
    # Every user once, whatever the number of its interactions.
    model = model_of(train)
    history = trainer(max_epochs=1, lr=1e-12, batch_by="user", batch_size=16).fit(model, train)
    assert history["loss"] == [pytest.approx(math.log(2), rel=1e-3)]


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


class Drawing(BPR):
    """Notes a number of the global random state at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[float] = []

    def forward(self, x_dict, batch):
        self.drawn.append(torch.rand(1).item())
        return super().forward(x_dict, batch)


def test_epochs_and_seeds_draw_numbers_of_their_own(train):
    drawn = {}
    for seed, epochs in ((0, 3), (0, 2), (1, 2)):
        loss = Drawing()
        trainer(seed=seed, max_epochs=epochs, loss=loss).fit(model_of(train), train)
        drawn[seed, epochs] = loss.drawn
    assert drawn[0, 3][: len(drawn[0, 2])] == drawn[0, 2]
    different = drawn[0, 3] + drawn[1, 2]
    assert len(set(different)) == len(different) == 5 * math.ceil(515 / 128)


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
