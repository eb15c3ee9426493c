"""Training on sampled neighbours; with all of them it is training on the whole graph."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pyg_kd import (
    HintRegression,
    PreferenceConsistentDistillation,
    RelaxedRankingDistillation,
    SoftLabel,
    TopologyDistillation,
)
from pyg_kd.functional import gather_rows, list_scores
from pyg_kd.models import CML, MF, NGCF, LightGCN
from pyg_kd.training import BPR, SampledSoftmax, Trainer
from pyg_kd.training.rows_on_demand import rows_wanted
from pyg_kd.training.sampled import SampledNeighbors
from pyg_kd.typing import Batch


def fit(graph, val, make=None, methods=(), **options):
    torch.manual_seed(0)
    model = (make or (lambda data: LightGCN(data, 4)))(graph)
    options = {"max_epochs": 2, "batch_size": 64, "lr": 0.02, "progress": False, **options}
    history = Trainer(**options).fit(model, graph, val_data=val, distillations=methods)
    return model, history


def same(one: nn.Module, other: nn.Module, **tolerance) -> None:
    for name, x in one.state_dict().items():
        if isinstance(x, torch.Tensor) and x.is_floating_point():
            torch.testing.assert_close(other.state_dict()[name], x, **tolerance)


MODELS = {
    "lightgcn": lambda data: LightGCN(data, 4),
    "unit": lambda data: LightGCN(data, 4, normalize=True, popularity=0.2),
    "ngcf": lambda data: NGCF(data, 4, dropout=0.0),
    "mf": lambda data: MF(data, 4, init_std=0.1),
}
LOSSES = {
    "bpr": BPR,
    "softmax": lambda: SampledSoftmax(num_negatives=16),
    "in_batch": lambda: SampledSoftmax(num_negatives=16, negatives="both", normalize=False),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", MODELS)
def test_all_neighbours_are_the_whole_graph(graph, val, name: str, loss: str) -> None:
    whole, expected = fit(graph, val, MODELS[name], loss=LOSSES[loss]())
    part, found = fit(graph, val, MODELS[name], loss=LOSSES[loss](), num_neighbors=[-1, -1])
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert found["recall@20"] == pytest.approx(expected["recall@20"], abs=0.02)
    same(whole, part, rtol=1e-3, atol=1e-4)


METHODS = {
    "soft labels": lambda: SoftLabel(num_listed=5),
    "soft labels of a list": lambda: SoftLabel(num_listed=5, tail="list"),
    "RRD": lambda: RelaxedRankingDistillation(num_interesting=5, num_uninteresting=5),
    "hints": HintRegression,
    "topology": TopologyDistillation,
    "DE with lists": lambda: PreferenceConsistentDistillation(num_items=5),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_on_all_neighbours(graph, val, name: str) -> None:
    def run(**options):
        return fit(graph, val, methods=[(METHODS[name](), 0.05)], loss="bpr", **options)

    whole, expected = run()
    part, found = run(num_neighbors=[-1, -1])
    column = type(METHODS[name]()).__name__
    assert found[column] == pytest.approx(expected[column], rel=1e-4)
    same(whole, part, rtol=1e-3, atol=2e-4)


def test_a_few_neighbours_teach(graph, val) -> None:
    options = {"loss": "bpr", "max_epochs": 8, "lr": 0.05}
    _, history = fit(graph, val, num_neighbors=[3, 2], **options)
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    methods = [(SoftLabel(num_listed=5), 5.0)]
    _, history = fit(graph, val, methods=methods, num_neighbors=[3, 2], **options)
    assert history["SoftLabel"][-1] < history["SoftLabel"][0]


def test_same_seed_same_bits(train, val) -> None:
    one, other = (fit(train, val, num_neighbors=[2, 2])[0] for _ in range(2))
    same(one, other, rtol=0, atol=0)
    third, _ = fit(train, val, num_neighbors=[2, 2], seed=5)
    assert not torch.equal(one.user_embedding, third.user_embedding)


def test_a_resumed_run_draws_the_same(train, val, tmp_path) -> None:
    options = {"num_neighbors": [2, 2], "loss": "bpr", "restore_best": False}
    whole, _ = fit(train, val, max_epochs=3, **options)
    fit(train, val, max_epochs=2, checkpoint_dir=tmp_path, **options)
    torch.manual_seed(1)
    model = LightGCN(train, 4)
    trainer = Trainer(
        max_epochs=3, batch_size=64, lr=0.02, progress=False, checkpoint_dir=tmp_path, **options
    )
    trainer.fit(model, train, val_data=val, resume=True)
    same(whole, model, rtol=0, atol=0)
    other = Trainer(
        max_epochs=3, batch_size=64, lr=0.02, progress=False, checkpoint_dir=tmp_path,
        **{**options, "num_neighbors": [2, 3]},
    )  # fmt: skip
    with pytest.raises(ValueError, match="num_neighbors"):
        other.fit(model, train, val_data=val, resume=True)


@pytest.mark.parametrize("name", ["lightgcn", "ngcf"])
def test_rows_of_the_embeddings(graph, val, name: str) -> None:
    """Only what a batch samples is read and stepped, to the result of steps of all rows."""
    methods = [(RelaxedRankingDistillation(num_interesting=5, num_uninteresting=5), 0.1)]
    dense, sparse = (
        fit(graph, val, MODELS[name], methods, batch_size=16, num_neighbors=[2, 2], sparse=sparse)
        for sparse in (False, True)
    )
    assert sparse[1]["loss"] == pytest.approx(dense[1]["loss"], rel=1e-4)
    same(dense[0], sparse[0], rtol=1e-3, atol=1e-4)


def test_several_batches_a_step(graph, val) -> None:
    options = {"loss": "bpr", "num_neighbors": [-1, -1]}
    large, _ = fit(graph, val, batch_size=90, **options)
    small, _ = fit(graph, val, batch_size=30, batches_per_step=3, **options)
    same(large, small, rtol=1e-3, atol=1e-4)


def test_what_is_read_later_is_represented_then(train) -> None:
    """Row by row against the whole graph, with padding, in any order and twice."""
    torch.manual_seed(0)
    model = LightGCN(train, 4).double()
    sampled = SampledNeighbors(model, train, [-1, -1])
    batch = Batch(*torch.tensor([[5, 2], [1, 1], [0, 7]]))
    whole = model(train)
    for _ in range(2):
        x_dict = sampled.represent([BPR()], train, batch)
        x = {kind: table.detach() for kind, table in whole.items()}
        users = torch.tensor([9, 2, 9])
        torch.testing.assert_close(gather_rows(x_dict["user"], users), x["user"][users])
        lists = torch.tensor([[3, -1], [8, 3], [-1, -1]])
        scores = list_scores(gather_rows(x_dict["user"], users), x_dict["item"], lists)
        expected = torch.einsum("bd,bkd->bk", x["user"][users], x["item"][lists.clamp(min=0)])
        torch.testing.assert_close(scores, expected.masked_fill(lists < 0, -torch.inf))
        assert bool(x_dict["item"].isnan().all())  # no row is there but by these functions
        (scores[:2, 0].sum() + gather_rows(x_dict["item"], batch.negative).sum()).backward()
    found = model.item_embedding.grad.clone() / 2
    model.item_embedding.grad = None
    chosen = whole["user"][users[:2]] * whole["item"][lists[:2, 0]]
    (chosen.sum() + whole["item"][batch.negative].sum()).backward()
    torch.testing.assert_close(found, model.item_embedding.grad, rtol=1e-6, atol=1e-7)


def test_what_terms_say_they_read(graph) -> None:
    class Silent(nn.Module):
        pass

    batch = Batch(*torch.tensor([[5, 2], [1, 1], [0, 7]]))
    assert rows_wanted([Silent()], graph, batch) == {"user": None, "item": None}
    assert rows_wanted([None], graph, batch) == {"user": None, "item": None}
    wanted = rows_wanted([BPR()], graph, batch)
    assert {kind: torch.cat(ids).unique().tolist() for kind, ids in wanted.items()} == {
        "user": [2, 5], "item": [0, 1, 7],
    }  # fmt: skip
    method = SoftLabel(num_listed=5).bind(graph, 4)
    wanted = rows_wanted([BPR(), method], graph, batch)
    assert wanted["item"] is None and wanted["user"] is not None


def test_bad_input(train, val) -> None:
    for bad in ([], [0, 2], [-2], "10", 5):
        with pytest.raises(ValueError, match="'num_neighbors' must be a list of positive integers"):
            Trainer(num_neighbors=bad)
    with pytest.raises(ValueError, match=r"the model has 2 layers.*for 1 hops"):
        fit(train, val, num_neighbors=[5])
    with pytest.raises(ValueError, match="CML does not read sampled subgraphs"):
        fit(train, val, lambda data: CML(data, 4), num_neighbors=[5, 5])
