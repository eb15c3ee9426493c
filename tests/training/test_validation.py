from __future__ import annotations

import copy

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.evaluation import evaluate
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.metrics.ranking_metrics import METRICS
from pyg_kd.models import MF, LightGCN
from pyg_kd.models.inference import inference
from pyg_kd.training import validate
from pyg_kd.training.validation import Validation, parse_metric
from pyg_kd.typing import INTERACTS


@pytest.mark.parametrize("metric", [f"{name}@{k}" for name in METRICS for k in (1, 7, 50)])
@pytest.mark.parametrize("kind", [MF, LightGCN])
def test_equals_the_evaluation(train, val, kind, metric):
    model = kind(train, dim=6)
    name, k = metric.split("@")
    expected = evaluate(model, train, val, int(k), (name,))
    values = validate(model, train, val, metric)
    assert values.keys() == expected.keys() == {metric}
    assert values[metric] == pytest.approx(expected[metric], rel=0, abs=1e-12)
    assert values[metric] > 0


def test_message_edges_of_both_graphs_are_hidden(train, val):
    model = MF(train, dim=6)
    test = copy.copy(val)
    # Half of the messages are in one graph, half in the other.
    edge_index = train[INTERACTS].edge_index
    train[INTERACTS].edge_index, test[INTERACTS].edge_index = (
        edge_index[:, ::2],
        edge_index[:, 1::2],
    )
    assert validate(model, train, test, "ndcg@10") == validate(model, train, val, "ndcg@10")


def test_negative_labels_are_no_targets(train, val):
    model = MF(train, dim=6)
    expected = validate(model, train, val, "recall@10")
    label = val[INTERACTS].edge_label_index
    # An edge that is a message: as a target it would cost recall.
    val[INTERACTS].edge_label_index = torch.cat([label, val[INTERACTS].edge_index[:, :40]], dim=1)
    val[INTERACTS].edge_label = torch.cat([torch.ones(label.size(1)), torch.zeros(40)])
    assert validate(model, train, val, "recall@10") == expected


def test_works_as_often_as_it_is_called(train, val):
    validation, model = Validation(train, val, "recall@10"), MF(train, dim=6)
    before = validation(model, train)
    model.reset_parameters()
    assert validation(model, train) == validate(model, train, val, "recall@10") != before


def test_mode_and_gradients(train, val):
    class Modes(MF):
        seen: list[tuple[bool, bool]] = []

        def forward(self, data):
            self.seen.append((self.training, torch.is_grad_enabled()))
            return super().forward(data)

    model = Modes(train, dim=6).train()
    validate(model, train, val, "recall@10")
    assert (model.seen, model.training) == ([(False, False)], True)
    with pytest.raises(RuntimeError, match="inside"), inference(model):
        assert not model.training
        raise RuntimeError("inside")
    assert model.training


def test_metric_names():
    assert parse_metric("recall@20") == ("recall", 20)
    for wrong in (
        20,
        ["recall@20"],
        "recall",
        "recall@",
        "recall@0",
        "recall@-1",
        "recall@x",
        "auc@5",
        "@5",
        "recall@²",
    ):
        with pytest.raises(ValueError, match=r"'metric' must look like 'recall@20'.*got "):
            parse_metric(wrong)


def test_targets_are_checked(train, val):
    with pytest.raises(ValueError, match=r"'metric' is 'recall@51', but there are 50 items"):
        Validation(train, val, "recall@51")
    with pytest.raises(ValueError, match=r"'val_data' has no 'edge_label_index'"):
        Validation(train, train, "recall@5")
    label = val[INTERACTS].edge_label_index
    val[INTERACTS].edge_label_index = label[:, :0]
    with pytest.raises(ValueError, match=r"'val_data' has no targets"):
        Validation(train, val, "recall@5")
    val[INTERACTS].edge_label_index = label + 60
    with pytest.raises(ValueError, match=r"edge_label_index\[0\] \(users\)' must lie in 0..59"):
        Validation(train, val, "recall@5")
    with pytest.raises(TypeError, match=r"'val_data' must be a HeteroData"):
        Validation(train, "val", "recall@5")
    other = HeteroData()
    other["user"].num_nodes, other["item"].num_nodes = 61, 50
    other[INTERACTS].edge_index = torch.tensor([[0], [0]])
    with pytest.raises(ValueError, match=r"nodes of 'data', \(60, 50\) users and items \(got \(61"):
        Validation(train, other, "recall@5")


def test_the_metric_of_a_teachers_lists(train, val):
    """What evaluation says of the teacher itself."""
    torch.manual_seed(1)
    teacher = LightGCN(train, dim=6)
    graph = extract_knowledge(teacher, train, num_items=20)
    for metric in ("recall@20", "ndcg@7", "mrr@1"):
        name, k = metric.split("@")
        expected = evaluate(teacher, train, val, int(k), (name,))[metric]
        found = Validation(graph, val, metric).of_teacher(graph)
        assert found == pytest.approx(expected, rel=0, abs=1e-12) and found > 0


def test_lists_that_do_not_tell_the_metric(train, val):
    graph = extract_knowledge(LightGCN(train, dim=6), train, num_items=10)
    assert Validation(graph, val, "recall@10").of_teacher(graph) is not None
    assert Validation(graph, val, "recall@11").of_teacher(graph) is None
    assert Validation(train, val, "recall@10").of_teacher(train) is None
    some = extract_knowledge(LightGCN(train, dim=6), train, num_items=10, users=[0, 1, 2])
    assert Validation(some, val, "recall@10").of_teacher(some) is None
    # More is hidden from the student's ranking than the lists leave out.
    other = copy.copy(val)
    free = graph["user"].teacher_items[:5, 0].long()
    targets = val[INTERACTS].edge_label_index
    more = torch.stack([torch.arange(5), free])
    more = more[:, ~(more.unsqueeze(2) == targets.unsqueeze(1)).all(0).any(1)]
    other[INTERACTS].edge_index = torch.cat([val[INTERACTS].edge_index, more], 1)
    assert more.size(1) and Validation(graph, other, "recall@10").of_teacher(graph) is None
