"""Methods on subgraphs: what the contract of all methods does not ask."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd import Distillation, HintRegression, SoftLabel
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.functional import gather_rows
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.loader import LinkNeighborLoader, triples
from pyg_kd.models import MF, LightGCN
from pyg_kd.typing import Batch, XDict

DIM = 3


@pytest.fixture(scope="module")
def graph() -> HeteroData:
    data = SyntheticInteractions(num_users=30, num_items=20, num_edges=150)[0]
    torch.manual_seed(0)
    return extract_knowledge(MF(data, 5), data, num_items=6, progress=False)


def first(graph: HeteroData) -> HeteroData:
    return next(iter(LinkNeighborLoader(graph, [2, 2], batch_size=12, neg_sampling="triplet")))


def test_a_loop_over_a_loader_is_one_over_global_ids(graph: HeteroData) -> None:
    """Every batch, its loss and the student's gradients, with all neighbours drawn."""
    student = LightGCN(graph, DIM)
    method = HintRegression().bind(graph, DIM)
    options = {"batch_size": 40, "neg_sampling": "triplet"}
    for subgraph in LinkNeighborLoader(graph, [-1, -1], **options):
        local = triples(subgraph)
        user, item = (subgraph[kind].n_id for kind in ("user", "item"))
        batch = Batch(user[local.user], item[local.positive], item[local.negative])
        losses, gradients = [], []
        for x_dict, of, part in (
            (student(subgraph), subgraph, local), (student(graph), graph, batch)
        ):  # fmt: skip
            losses.append(method(x_dict, of, part))
            gradients.append(torch.autograd.grad(losses[-1], list(student.parameters())))
        torch.testing.assert_close(*losses)
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_padding_of_lists_is_no_node(graph: HeteroData) -> None:
    """Users without lists, and item 0 not among the seeds."""
    short = copy.copy(graph)
    short["user"].teacher_items = graph["user"].teacher_items.clone()
    short["user"].teacher_items[:, 2:] = -1
    users = [u for u in range(30) if 0 not in short["user"].teacher_items[u, :2].tolist()][:3]
    items = short["user"].teacher_items[users, :2].unique().long()
    user = torch.tensor(users).repeat_interleave(len(items))
    pairs = torch.stack([user, items.repeat(3)])
    subgraph = next(iter(LinkNeighborLoader(short, [1], pairs, batch_size=pairs.size(1))))
    assert 0 not in items
    method = SoftLabel(num_listed=6, tail="list", target="rank").bind(short, DIM)
    x = {kind: torch.randn(short[kind].num_nodes, DIM) for kind in ("user", "item")}
    local = triples(subgraph)
    x_dict = {kind: x[kind][subgraph[kind].n_id] for kind in x}
    batch = Batch(pairs[0], pairs[1], pairs[1])
    part = Batch(local.user, local.positive, local.positive)
    torch.testing.assert_close(method(x_dict, subgraph, part), method(x, short, batch))


def test_the_graph_is_neither_copied_nor_saved_with_a_method(graph: HeteroData) -> None:
    method = HintRegression().bind(graph, DIM)
    assert copy.deepcopy(method)._whole.graph is graph
    other = pickle.loads(pickle.dumps(method))
    subgraph = first(graph)
    x_dict = {kind: torch.randn(subgraph[kind].num_nodes, DIM) for kind in ("user", "item")}
    with pytest.raises(RuntimeError, match="HintRegression must be bound to the whole graph"):
        other(x_dict, subgraph, triples(subgraph))


def test_a_method_that_is_not_row_wise_is_told_how_to_be(graph: HeteroData) -> None:
    class OfBatch(Distillation):
        def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
            self.ensure_bound(x_dict, graph)
            return gather_rows(x_dict["user"], batch.unique_users).sum()

    class OfRows(OfBatch):
        row_wise = ("user", "item")

    subgraph = first(graph)
    x_dict = {kind: torch.randn(subgraph[kind].num_nodes, DIM) for kind in ("user", "item")}
    hint = "OfBatch.row_wise lacks 'user': .* read them by pyg_kd.functional.gather_rows"
    with pytest.raises(ValueError, match=f"OfBatch reads .* no seeds .*{hint}"):
        OfBatch().bind(graph, DIM)(x_dict, subgraph, triples(subgraph))
    found = OfRows().bind(graph, DIM)(x_dict, subgraph, triples(subgraph))
    assert found == x_dict["user"][triples(subgraph).unique_users].sum()


def test_errors(graph: HeteroData) -> None:
    method, subgraph = HintRegression().bind(graph, DIM), first(graph)
    x_dict = {kind: torch.randn(subgraph[kind].num_nodes, DIM) for kind in ("user", "item")}
    batch = triples(subgraph)
    with pytest.raises(ValueError, match=r"'x_dict\['user'\]' must have one row for each of the"):
        method({**x_dict, "user": x_dict["user"][:-1]}, subgraph, batch)
    wrong = Batch(batch.user, batch.positive, batch.negative + 20)
    with pytest.raises(ValueError, match=r"'batch.negative' must lie in 0\.\."):
        method(x_dict, subgraph, wrong)
    torch.manual_seed(3)
    other = extract_knowledge(MF(graph, 5), graph, num_items=6, progress=False)
    with pytest.raises(ValueError, match="carries the knowledge of another teacher"):
        method(x_dict, first(other), batch)
    # A graph of other edges that carries the fingerprint of this one.
    other = copy.copy(graph)
    other["user", "item"].edge_index = graph["user", "item"].edge_index[:, 1:]
    whole = {kind: torch.randn(graph[kind].num_nodes, DIM) for kind in ("user", "item")}
    with pytest.raises(ValueError, match="'graph' is not the graph that HintRegression"):
        method(whole, other, Batch(*graph["user", "item"].edge_index[:, :3].repeat(2, 1)[:3]))
