"""Whatever else a graph carries, everything here reads its interactions alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch_geometric.data import HeteroData
from torch_geometric.nn import GraphSAGE, HeteroConv, SAGEConv, to_hetero

from pyg_kd import TopologyDistillation
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.evaluation import evaluate, evaluate_sampled
from pyg_kd.knowledge import extract_knowledge, load_knowledge, save_knowledge
from pyg_kd.knowledge.requirements import graph_fingerprint, knowledge_key
from pyg_kd.models import MF, Recommender
from pyg_kd.training import Trainer
from pyg_kd.transforms import KCore, UserSplit
from pyg_kd.typing import INTERACTS


def rich(data: HeteroData) -> HeteroData:
    """The graph with features, nodes, edges and a second relation, which come first in it."""
    generator = torch.Generator().manual_seed(5)
    num_users, num_items = data["user"].num_nodes, data["item"].num_nodes

    def edges(source: int, target: int, num: int = 30) -> torch.Tensor:
        draws = [torch.randint(n, (num,), generator=generator) for n in (source, target)]
        return torch.stack(draws)

    out = HeteroData()
    out["category"].x = torch.randn(4, 2, generator=generator)
    out["user", "views", "item"].edge_index = edges(num_users, num_items)
    out["item", "in", "category"].edge_index = edges(num_items, 4)
    out["category", "rev_in", "item"].edge_index = out["item", "in", "category"].edge_index.flip(0)
    out["user", "knows", "user"].edge_index = edges(num_users, num_users)
    out["item", "near", "item"].edge_index = edges(num_items, num_items)
    out.interaction_relation = INTERACTS[1]
    for kind in (*data.node_types, *data.edge_types):
        out[kind].update(dict(data[kind].items()))
    for name, value in data.to_dict()["_global_store"].items():
        out[name] = value
    out["item"].x = torch.randn(num_items, 3, generator=generator)
    out["user"].title = [f"user {n}" for n in range(num_users)]
    return out


@pytest.fixture(scope="module")
def parts() -> list[tuple[HeteroData, HeteroData]]:
    """Training, validation and test graph, plain and rich."""
    data = SyntheticInteractions(None, num_users=40, num_items=120, num_edges=600, seed=1)[0]
    found = [UserSplit(0.1, 0.2)(KCore(2)(graph)) for graph in (data, rich(data))]
    return list(zip(*found, strict=True))


def test_splits_and_fingerprints(parts) -> None:
    for plain, other in parts:
        for key, value in plain[INTERACTS].items():
            assert torch.equal(other[INTERACTS][key], value)
        assert graph_fingerprint(plain) == graph_fingerprint(other)
        assert len(other.edge_types) == 6 and other["item"].x.size(0) == other["item"].num_nodes


@pytest.mark.filterwarnings("ignore:Metrics against 20 sampled items")
def test_training_evaluation_and_recommendations(learner_cls, parts) -> None:
    results = []
    for train, val, test in zip(*parts, strict=True):
        torch.manual_seed(0)
        model = learner_cls(train, 6)
        Trainer(max_epochs=2, batch_size=128, progress=False).fit(model, train, val_data=val)
        metrics = (
            evaluate(model, train, test, k=5),
            evaluate_sampled(model, train, test, k=5, num_negatives=20),
        )
        results.append((model.state_dict(), metrics, model.recommend(train, 7, users=[3, 1])))
    plain, other = results
    assert plain[0].keys() == other[0].keys()
    assert all(torch.equal(other[0][key], value) for key, value in plain[0].items())
    assert plain[1] == other[1]
    assert all(torch.equal(a, b) for a, b in zip(plain[2], other[2], strict=True))


def test_models_in_closed_form(fitted_cls, parts) -> None:
    plain, other = parts[0]
    found = [fitted_cls(data, 6).recommend(data, 5) for data in (plain, other)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_methods(make, world) -> None:
    graph, losses = rich(world.graph), []
    for data in (world.graph, graph):
        torch.manual_seed(0)
        method = make().bind(data, world.dim)
        world.settle(method, {key: x.detach() for key, x in world.x_dict(seed=9).items()})
        torch.manual_seed(1)
        losses.append(method(world.x_dict(), data, world.batch))
    assert torch.equal(*losses)


def test_knowledge_passes_between_the_two(parts, tmp_path) -> None:
    plain, other = parts[0]
    torch.manual_seed(0)
    teacher = MF(plain, 6, init_std=1.0)
    graph = extract_knowledge(teacher, other, num_items=20, num_users=10)
    assert graph["category"].x is other["category"].x
    assert set(graph.edge_types) == set(other.edge_types)
    save_knowledge(graph, tmp_path / "knowledge.safetensors")
    loaded = load_knowledge(tmp_path / "knowledge.safetensors", plain)
    alone = extract_knowledge(teacher, plain, num_items=20, num_users=10)
    assert knowledge_key(graph) == knowledge_key(loaded) == knowledge_key(alone)
    for kind, name in (("user", "teacher_items"), ("item", "teacher_users"), ("item", "teacher_x")):
        assert torch.equal(loaded[kind][name], alone[kind][name])
    again = load_knowledge(tmp_path / "knowledge.safetensors", copy.copy(other))
    assert torch.equal(again["user"].teacher_items, alone["user"].teacher_items)


class Hetero(Recommender):
    """A model of all node and edge types, by way of ``HeteroConv`` or ``to_hetero``."""

    default_loss = "bpr"

    def __init__(self, data: HeteroData, dim: int, way: str) -> None:
        super().__init__(data, dim)
        self.category = torch.nn.Linear(data["category"].x.size(1), dim)
        self.item = torch.nn.Linear(data["item"].x.size(1), dim)
        self.user = torch.nn.Embedding(self.num_users, dim)
        edges = both_directions(data)
        if way == "to_hetero":
            metadata = (["user", "item", "category"], list(edges))
            self.conv = to_hetero(GraphSAGE(dim, dim, num_layers=2), metadata)
        else:
            self.conv = HeteroConv({kind: SAGEConv((dim, dim), dim) for kind in edges})
        self.made = 0

    def forward(self, data: HeteroData) -> dict[str, torch.Tensor]:
        edges = self.cached(data, self.make)
        x = {t: getattr(self, t)(data[t].x) for t in ("item", "category")}
        return self.conv(x | {"user": self.user.weight}, edges)

    def make(self, data: HeteroData) -> dict[tuple[str, str, str], torch.Tensor]:
        self.made += 1
        return both_directions(data)


def both_directions(data: HeteroData) -> dict[tuple[str, str, str], torch.Tensor]:
    edges = data.edge_index_dict
    return edges | {(t, f"rev_{name}", s): e.flip(0) for (s, name, t), e in edges.items()}


@pytest.mark.parametrize("way", ["HeteroConv", "to_hetero"])
def test_a_heterogeneous_teacher_teaches_a_student_of_ids(way: str, parts, tmp_path) -> None:
    (plain, train), (_, val) = parts[:2]
    torch.manual_seed(0)
    teacher = Hetero(train, 6, way)
    history = Trainer(max_epochs=8, batch_size=128, lr=1e-2, progress=False).fit(
        teacher, train, val_data=val
    )
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert teacher.made == 1  # for all steps and validations
    graph = extract_knowledge(teacher, train, num_items=30)
    assert "teacher_x" not in graph["category"]
    save_knowledge(graph, tmp_path / "knowledge.safetensors")
    lesson = load_knowledge(tmp_path / "knowledge.safetensors", plain)
    distilled = Trainer(max_epochs=8, batch_size=128, lr=1e-2, progress=False).fit(
        MF(lesson, 3), lesson, distillations=[(TopologyDistillation(), 1e-3)]
    )["TopologyDistillation"]
    assert 0 < distilled[-1] < distilled[0]


def test_an_unprepared_graph_is_told_the_transform(parts) -> None:
    data = copy.copy(parts[0][0])
    model = MF(data, 4)
    data.rename("user", "customer").rename("item", "product")
    named = r"use pyg_kd.transforms.UserItem\(user='customer', item='product'\)"
    for call in (
        lambda: Trainer(max_epochs=1, progress=False).fit(model, data),
        lambda: MF(data, 4),
        lambda: UserSplit()(data),
        lambda: KCore(1)(data),
        lambda: evaluate(model, data, data),
        lambda: extract_knowledge(model, data),
        lambda: graph_fingerprint(data),
        lambda: model.recommend(data),
    ):
        with pytest.raises(ValueError, match=named):
            call()
