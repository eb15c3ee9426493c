"""Training of a model whose last layer is computed for a batch is training of the whole model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pyg_kd import (
    Distillation,
    HintRegression,
    ItemSideRankingRegularization,
    RelaxedRankingDistillation,
    SoftLabel,
    TopologyDistillation,
)
from pyg_kd.functional import gather_rows
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import MF, NGCF, LightGCN
from pyg_kd.training import BPR, SampledSoftmax, Trainer, last_layer
from pyg_kd.training.last_layer import LastLayer
from pyg_kd.typing import Batch


class Whole(LightGCN):
    """A LightGCN that is applied as it is."""

    def forward(self, data):
        return super().forward(data)


def fit(graph, val, model=LightGCN, methods=(), **options):
    torch.manual_seed(0)
    options = {"max_epochs": 2, "batch_size": 32, "lr": 0.02, "progress": False, **options}
    student = model(graph, 4)
    history = Trainer(**options).fit(student, graph, val_data=val, distillations=methods)
    return student, history


@pytest.fixture
def counted(monkeypatch) -> dict[str, int]:
    """How many batches were represented, and how many of them by rows."""
    counts = {"batches": 0, "by rows": 0}
    represent = LastLayer.represent

    def counting(self, *arguments):
        found = represent(self, *arguments)
        counts["batches"] += 1
        counts["by rows"] += self.read is not None
        return found

    monkeypatch.setattr(LastLayer, "represent", counting)
    monkeypatch.setattr(last_layer, "MOST", 1.0)  # graphs of tests are small
    return counts


LOSSES = {
    "bpr": BPR,
    "softmax": lambda: SampledSoftmax(num_negatives=16),
    "in_batch": lambda: SampledSoftmax(num_negatives=16, negatives="both", normalize=False),
}


def rrd() -> RelaxedRankingDistillation:
    return RelaxedRankingDistillation(num_interesting=5, num_uninteresting=5)


def both_sides() -> list[tuple[Distillation, float]]:
    users = rrd()
    items = ItemSideRankingRegularization(num_interesting=5, num_uninteresting=5, ranking=users)
    return [(users, 0.05), (items, 0.05)]


METHODS = {
    "RRD": lambda: [(rrd(), 0.05)],
    "both sides": both_sides,
    "hints": lambda: [(HintRegression(), 0.05)],
    "topology": lambda: [(TopologyDistillation(), 0.05)],
}


def same(one: nn.Module, other: nn.Module, atol: float = 1e-4) -> None:
    for name, x in one.named_parameters():
        torch.testing.assert_close(other.get_parameter(name), x, rtol=1e-3, atol=atol)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses(graph, val, counted, loss: str, precision: str) -> None:
    options = {"loss": LOSSES[loss](), "precision": precision}
    whole, expected = fit(graph, val, Whole, **options)
    assert counted["batches"] == 0
    part, found = fit(graph, val, **options)
    assert counted["by rows"] == counted["batches"] > 0
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert found["recall@20"] == pytest.approx(expected["recall@20"], abs=0.02)
    same(whole, part, atol=1e-3 if precision == "bf16-mixed" else 1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_methods(graph, val, counted, name: str) -> None:
    graph = extract_knowledge(MF(graph, 12), graph, num_items=25, num_users=20)
    whole, expected = fit(graph, val, Whole, METHODS[name](), loss="bpr")
    part, found = fit(graph, val, LightGCN, METHODS[name](), loss="bpr")
    assert counted["by rows"] == counted["batches"] > 0
    for column in expected.columns:
        if column not in ("seconds", "recall@20", "ndcg@20"):
            assert found[column] == pytest.approx(expected[column], rel=1e-4)
    same(whole, part)


def test_scaled_representations(graph, val, counted) -> None:
    def unit(cls):
        return lambda data, dim: cls(data, dim, normalize=True, popularity=0.2)

    whole, expected = fit(graph, val, unit(Whole), loss=LOSSES["softmax"]())
    part, found = fit(graph, val, unit(LightGCN), loss=LOSSES["softmax"]())
    assert counted["by rows"] > 0
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    same(whole, part)


def test_several_batches_a_step_share_one_propagation(graph, val, counted) -> None:
    one, _ = fit(graph, val, batch_size=30, batches_per_step=3, loss="bpr")
    assert counted["batches"] == 0
    large, _ = fit(graph, val, batch_size=90, loss="bpr")
    same(one, large)


def test_whole_tables_and_large_batches_take_the_whole_model(graph, val, counted, monkeypatch):
    fit(graph, val, LightGCN, [(SoftLabel(num_listed=5), 0.1)], loss="bpr")
    assert counted["batches"] > 0 and counted["by rows"] == 0
    monkeypatch.setattr(last_layer, "MOST", 0.05)
    fit(graph, val, loss="bpr")
    assert counted["by rows"] == 0


def test_models_that_compute_rows_no_other_way(graph, val) -> None:
    assert last_layer.last_layer(MF(graph, 4), graph) is None
    assert last_layer.last_layer(NGCF(graph, 4), graph) is None
    assert last_layer.last_layer(LightGCN(graph, 4, num_layers=0), graph) is None
    assert last_layer.last_layer(LightGCN(graph, 4, block_rows=8), graph) is None
    assert last_layer.last_layer(LightGCN(graph, 4), graph) is not None


def test_a_changed_forward_pass_is_seen(graph) -> None:
    """By a subclass, by a hook, and by whoever sets the attribute."""
    assert last_layer.last_layer(Whole(graph, 4), graph) is None
    hooked, patched = LightGCN(graph, 4), LightGCN(graph, 4)
    hooked.register_forward_hook(lambda *_: None)
    patched.forward = lambda data: LightGCN.forward(patched, data)
    assert last_layer.last_layer(hooked, graph) is None
    assert last_layer.last_layer(patched, graph) is None


def test_what_is_read_later_and_what_is_kept(graph) -> None:
    torch.manual_seed(0)
    model = LightGCN(graph, 4, num_layers=3).double()
    last = last_layer.last_layer(model, graph)
    batch = Batch(*torch.tensor([[5, 2], [1, 1], [0, 7]]))
    x_dict, whole = last.represent([BPR()], graph, batch), model(graph)
    users = torch.tensor([9, 2, 9])
    found = gather_rows(x_dict["user"], users)
    torch.testing.assert_close(found, whole["user"][users])
    gradient = torch.autograd.grad(found.sum(), model.item_embedding)
    expected = torch.autograd.grad(whole["user"][users].sum(), model.item_embedding)
    torch.testing.assert_close(gradient, expected)
    last.forget()
    assert last.read is None and not any(last.found.values())
    assert all(bool((place == -1).all()) for place in last.place.values())


def test_same_seed_same_bits(graph, val, counted) -> None:
    one, other = (fit(graph, val, loss="bpr")[0] for _ in range(2))
    assert counted["by rows"] > 0
    assert torch.equal(one.user_embedding, other.user_embedding)
