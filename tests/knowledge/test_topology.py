from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.knowledge import extract_knowledge, topology_graph
from pyg_kd.models import MF


@pytest.fixture(scope="module")
def graph() -> HeteroData:
    data = SyntheticInteractions(num_users=40, num_items=25, num_edges=300)[0]
    data["user"].raw_id = [f"u{n}" for n in range(40)]
    torch.manual_seed(0)
    return extract_knowledge(MF(data, 6, init_std=1.0), data, num_items=0)


def _cosines(names: list[tuple[str, int]], x_dict: dict[str, Tensor]) -> np.ndarray:
    x = np.array([x_dict[kind][node].double().numpy() for kind, node in names])
    cosine = np.array([[a @ b / np.sqrt(a @ a * (b @ b)) for b in x] for a in x])
    return cosine


def _expected(cosine: np.ndarray, k: int | None, threshold: float | None) -> set[tuple[int, int]]:
    size = len(cosine)
    found = set()
    for i in range(size):
        others = sorted((j for j in range(size) if j != i), key=lambda j: (-cosine[i, j], j))
        for j in others[:k]:
            if threshold is None or cosine[i, j] >= threshold:
                found.add((min(i, j), max(i, j)))
    return found


@pytest.mark.parametrize("block", [None, 100])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 1},
        {"k": 99, "threshold": 0.2},
        {"k": 3, "threshold": 0.8},
        {"k": None, "threshold": 0.3},
        {"k": None, "threshold": -1},
        {"users": [7, 3, 30], "items": range(9), "k": 2},
        {"users": [], "items": torch.tensor([4, 2, 0]), "k": 2},
        {"users": [], "items": [], "k": 2},
        {"users": [5], "items": [], "k": None, "threshold": 0},
    ],
)
def test_edges_are_those_of_all_pairs_compared_one_by_one(
    graph: HeteroData,
    options: dict[str, Any],
    block: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if block is not None:
        for module in ("knowledge.topology", "functional.ranking"):
            monkeypatch.setattr(f"pyg_kd.{module}.BLOCK_ENTRIES", block)
    found = topology_graph(graph, **options)
    names = [("user", int(n)) for n in options.get("users", range(40))]
    names += [("item", int(n)) for n in options.get("items", range(25))]
    assert list(found.nodes) == names
    x_dict = {kind: graph[kind].teacher_x for kind in ("user", "item")}
    cosine = _cosines(names, x_dict) if names else np.zeros((0, 0))
    edges = _expected(cosine, options.get("k", 5), options.get("threshold"))
    assert {frozenset(edge) for edge in found.edges} == {
        frozenset((names[i], names[j])) for i, j in edges
    }
    for i, j in edges:
        weight = found.edges[names[i], names[j]]["weight"]
        assert weight == pytest.approx(cosine[i, j], abs=1e-12) and -1 <= weight <= 1


def test_nodes_take_attributes_along(graph: HeteroData) -> None:
    found = topology_graph(graph, users=[3, 1], items=[2], node_attrs=["raw_id", "group"])
    assert nx.get_node_attributes(found, "type") == {
        ("user", 3): "user",
        ("user", 1): "user",
        ("item", 2): "item",
    }
    assert nx.get_node_attributes(found, "raw_id") == {("user", 3): "u3", ("user", 1): "u1"}
    groups = nx.get_node_attributes(found, "group")
    assert groups["item", 2] == int(graph["item"].group[2])
    assert groups["user", 3] == graph["user"].group[3].tolist()


def test_other_representations_are_compared_instead(graph: HeteroData) -> None:
    x_dict = {"user": torch.randn(40, 3, requires_grad=True), "item": torch.zeros(25, 3)}
    found = topology_graph(graph, x_dict=x_dict, k=None, threshold=0.5)
    cosine = _cosines([("user", n) for n in range(40)], {"user": x_dict["user"].detach()})
    assert found.number_of_edges() == int((np.triu(cosine, 1) >= 0.5).sum())


def test_it_can_be_drawn(graph: HeteroData, tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = topology_graph(graph, users=range(12), items=range(8), k=2)
    figure, axes = pyplot.subplots()
    colour = ["C0" if kind == "user" else "C1" for kind, _ in found.nodes]
    nx.draw(found, nx.spring_layout(found, seed=0), ax=axes, node_color=colour)
    figure.savefig(tmp_path / "topology.png")
    pyplot.close(figure)
    assert (tmp_path / "topology.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": None}, "'k' or 'threshold' must be given"),
        ({"k": 0}, r"'k' must be a positive integer \(got 0\)"),
        ({"threshold": 1.5}, r"'threshold' must lie in -1..1 \(got 1.5\)"),
        ({"users": [40]}, r"'users' must lie in 0..39 \(got 40\)"),
        ({"items": [1, 1]}, r"'items' must not repeat an id \(got \[1, 1\]\)"),
        ({"node_attrs": ["colour"]}, r"'node_attrs' must name attributes .* \(got 'colour'\)"),
        (
            {"x_dict": {"user": torch.ones(39, 2), "item": torch.ones(25, 2)}},
            r"representations of users must be \[40, d\] \(got \[39, 2\]\)",
        ),
        (
            {"x_dict": {"user": torch.ones(40, 2), "item": torch.full((25, 2), torch.nan)}},
            "representations of items must be finite",
        ),
    ],
)
def test_options_are_checked(graph: HeteroData, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        topology_graph(graph, **options)


def test_knowledge_is_needed(graph: HeteroData) -> None:
    data = SyntheticInteractions(num_users=40, num_items=25, num_edges=300)[0]
    with pytest.raises(ValueError, match=r"topology_graph needs 'graph.*teacher_x', which is miss"):
        topology_graph(data)
