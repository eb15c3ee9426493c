from __future__ import annotations

import pytest
import torch

from pyg_kd import RelaxedRankingDistillation
from pyg_kd.models import CML, MF, NGCF, LightGCN
from pyg_kd.training import Trainer
from pyg_kd.training.objective import Objective


class Counted(LightGCN):
    """LightGCN that counts how often it is applied."""

    count = 0

    def forward(self, data):
        Counted.count += self.training and torch.is_grad_enabled()
        return super().forward(data)


def fit(model_cls, graph, val, methods=(), **options):
    torch.manual_seed(0)
    model = model_cls(graph, dim=4)
    options = {"max_epochs": 2, "lr": 0.02, "progress": False, **options}
    history = Trainer(**options).fit(model, graph, val_data=val, distillations=methods)
    return model, history


@pytest.mark.parametrize("model_cls", [MF, LightGCN, NGCF])
def test_several_batches_are_one_large_batch(graph, val, model_cls) -> None:
    # The loader draws the same batches' interactions in the same order.
    large, expected = fit(model_cls, graph, val, loss="bpr", batch_size=90)
    small, found = fit(model_cls, graph, val, loss="bpr", batch_size=30, batches_per_step=3)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for name, x in large.state_dict().items():
        if isinstance(x, torch.Tensor):
            torch.testing.assert_close(small.state_dict()[name], x, rtol=1e-3, atol=1e-5)


def test_methods_and_users(graph, val) -> None:
    """Over batches of users, whose losses are of whole lists."""

    def run(**options):
        method = RelaxedRankingDistillation(num_interesting=5, num_uninteresting=5)
        return fit(LightGCN, graph, val, [(method, 0.1)], loss="bpr", batch_by="user", **options)

    large, expected = run(batch_size=60)
    small, found = run(batch_size=20, batches_per_step=3)
    name = "RelaxedRankingDistillation"
    assert found[name] == pytest.approx(expected[name], rel=1e-4)
    for key, x in large.state_dict().items():
        if isinstance(x, torch.Tensor):
            torch.testing.assert_close(small.state_dict()[key], x, rtol=1e-3, atol=1e-5)


def test_the_model_is_applied_once_a_step(train, val) -> None:
    Counted.count = 0
    fit(Counted, train, val, batch_size=16, max_epochs=1, batches_per_step=4)
    edges = train["user", "item"].edge_index.size(1)
    batches = -(-edges // 16)
    assert Counted.count == -(-batches // 4)


def test_a_model_with_an_objective_of_its_own(train, val) -> None:
    large, _ = fit(CML, train, val, batch_size=64)
    small, _ = fit(CML, train, val, batch_size=16, batches_per_step=4)
    assert set(large.state_dict()) == set(small.state_dict())
    assert not torch.equal(large.user_embedding, CML(train, dim=4).user_embedding)


def test_tables_of_rows(train, val) -> None:
    dense, _ = fit(MF, train, val, batch_size=16, batches_per_step=2, sparse=False)
    sparse, _ = fit(MF, train, val, batch_size=16, batches_per_step=2, sparse=True)
    for name, x in dense.state_dict().items():
        torch.testing.assert_close(sparse.state_dict()[name], x, rtol=1e-3, atol=1e-5)


def test_an_error_inside_leaves_nothing_shared(train) -> None:
    objective = Objective(LightGCN(train, dim=4), None)
    with pytest.raises(KeyError), objective.shared_representations(train):
        raise KeyError
    assert objective._shared is None


def test_bad_input() -> None:
    with pytest.raises(
        ValueError, match=r"'batches_per_step' must be a positive integer \(got 0\)"
    ):
        Trainer(batches_per_step=0)
