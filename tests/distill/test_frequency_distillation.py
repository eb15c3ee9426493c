from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd import FrequencyDistillation
from pyg_kd.functional import co_interactions
from pyg_kd.graph import interactions
from pyg_kd.knowledge.requirements import graph_fingerprint
from pyg_kd.typing import INTERACTS, Batch
from tests.distill.slopes import Arrays, arrays, slopes

NODES = ("user", "item")
GRAPHS = ("co-interaction", "teacher", "interactions")
LOSSES = ("cosine", "squared")


def array(x: Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def interacted(graph: HeteroData) -> np.ndarray:
    """The dense matrix of interactions."""
    x = np.zeros((graph["user"].num_nodes, graph["item"].num_nodes))
    x[tuple(graph[INTERACTS].edge_index.numpy())] = 1
    return x


def normalized(links: np.ndarray) -> np.ndarray:
    degree = links.sum(1)
    root = np.divide(1, np.sqrt(degree), out=np.zeros(len(degree)), where=degree > 0)
    return root[:, None] * links * root


def choose(nearness: np.ndarray, k: int) -> np.ndarray:
    """Each row links to the k nearest of those that are near at all, other than itself."""
    links = np.zeros_like(nearness)
    for a, near in enumerate(nearness):
        others = [b for b in range(len(near)) if b != a and near[b] > -np.inf]
        links[a, sorted(others, key=lambda b: -near[b])[:k]] = 1
    return (links + links.T) / 2


def adjacency(method: FrequencyDistillation, graph: HeteroData, node_type: str) -> np.ndarray:
    """The smoothing matrix of the entities of a type, entry by entry."""
    x = interacted(graph)
    if method.graph == "interactions":
        users, items = x.sum(1), x.sum(0)
        root = np.sqrt(np.maximum(users[:, None] * items, 1))
        return x / root if node_type == "user" else (x / root).T
    t = array(graph[node_type].teacher_x)
    if method.graph == "teacher":
        near = -((t[:, None] - t) ** 2).sum(2)
    else:
        x = x if node_type == "user" else x.T
        shared, size = x @ x.T, x.sum(1)
        # Tied in whole numbers first, so that no rounding decides.
        near = np.divide(shared**2, size, where=shared > 0, out=np.full(shared.shape, -np.inf))
        length = np.linalg.norm(t, axis=1)
        alike = t @ t.T / np.maximum(length[:, None] * length, 1e-300)
        gaps = np.diff(np.unique(near[near > -np.inf]))
        near = near + alike * (gaps.min() / 4 if len(gaps) else 1)
    return normalized(choose(near, method.num_neighbors))


def dense(method: FrequencyDistillation, node_type: str, num_cols: int) -> np.ndarray:
    """What a method holds as a sparse matrix."""
    ptr, col, value = (array(x) for x in method.filters[node_type].get())
    out = np.zeros((len(ptr) - 1, num_cols))
    row = np.repeat(np.arange(len(out)), np.diff(ptr).astype(int))
    np.add.at(out, (row, col.astype(int)), value)
    return out


def oracle(
    method: FrequencyDistillation, problem: SimpleNamespace, student: Arrays, kept: Arrays
) -> float:
    """The loss, entity by entity; ``kept`` has the factor of every entry of the matrices."""
    batch, total = problem.batch, 0.0
    items = np.unique(np.concatenate([batch.positive, batch.negative.flatten()]))
    for node_type, index in (("user", np.unique(batch.user)), ("item", items)):
        a = adjacency(method, problem.graph, node_type) * kept[node_type]
        around = node_type
        if method.graph == "interactions":
            around = "item" if node_type == "user" else "user"
        teacher = {key: array(problem.graph[key].teacher_x) for key in NODES}
        w1, b1, w2, b2 = (array(p) for p in method.projectors[node_type].parameters())
        for e in index:
            s, t = (
                (1 - method.alpha) * x[node_type][e] + method.alpha * a[e] @ x[around]
                for x in (student, teacher)
            )
            s = w2 @ np.maximum(w1 @ s + b1, 0) + b2
            if method.loss == "squared":
                total += ((s - t) ** 2).sum()
            else:
                # A product of lengths below 1e-8 counts as that, as in PyTorch.
                lengths = max(np.linalg.norm(s), 1e-8) * max(np.linalg.norm(t), 1e-8)
                total += 1 - s @ t / lengths
    return float(total)


EVERYTHING = {"user": np.ones(1), "item": np.ones(1)}


def masks(method: FrequencyDistillation, seed: int, sizes: dict[str, int]) -> Arrays:
    """The factors of the entries that a forward pass after ``seed`` will draw."""
    torch.manual_seed(seed)
    drawn = copy.deepcopy(method)
    for node_type in NODES:
        value = drawn.filters[node_type].value
        value.copy_((torch.rand_like(value) >= method.dropout) / (1 - method.dropout))
    columns = [sizes["user"], sizes["item"]]
    if method.graph == "interactions":
        columns.reverse()
    others = dict(zip(NODES, columns, strict=True))
    return {node_type: dense(drawn, node_type, others[node_type]) for node_type in NODES}


def check(method: FrequencyDistillation, problem: SimpleNamespace, dim: int, rel: float) -> None:
    """Value and gradient, with what dropout leaves."""
    method.bind(problem.graph, dim)
    sizes = {key: len(x) for key, x in problem.x_dict.items()}
    kept = masks(method, 7, sizes) if method.dropout else EVERYTHING
    torch.manual_seed(7)
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    expected = oracle(method, problem, arrays(problem.x_dict), kept)
    assert loss.item() == pytest.approx(expected, rel=rel, abs=rel)
    found, slope = slopes(lambda x: oracle(method, problem, x, kept), problem.x_dict)
    assert found == pytest.approx(slope, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_value_and_gradient(problem, graph: str, loss: str, dropout: float) -> None:
    method = FrequencyDistillation(graph=graph, loss=loss, dropout=dropout, num_neighbors=4)
    # The adjacency of the user-item graph, which models share, is float32.
    check(method, problem, 4, rel=1e-6 if graph == "interactions" else 1e-9)


@st.composite
def problems(draw: st.DrawFn) -> SimpleNamespace:
    """Graphs of few users and items, some of them without edges, and any widths."""
    users, items = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    some = draw(
        st.lists(st.tuples(st.integers(0, users - 1), st.integers(0, items - 1)), max_size=25)
    )
    graph = HeteroData()
    graph["user"].num_nodes, graph["item"].num_nodes = users, items
    edges = torch.tensor(some, dtype=torch.long).view(-1, 2).t()
    graph[INTERACTS].edge_index = edges.contiguous()
    dim, width = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    torch.manual_seed(draw(st.integers(0, 100)))
    for key in NODES:
        graph[key].teacher_x = torch.randn(graph[key].num_nodes, width, dtype=torch.double)
    graph.graph_fingerprint = graph_fingerprint(graph)
    size = draw(st.integers(1, 5))
    batch = Batch(*(torch.randint(n, (size,)) for n in (users, items, items)))
    x_dict = {
        key: torch.randn(graph[key].num_nodes, dim, dtype=torch.double).requires_grad_()
        for key in NODES
    }
    return SimpleNamespace(graph=graph, batch=batch, x_dict=x_dict, dim=dim)


@settings(max_examples=150, deadline=None)
@given(
    problems(),
    st.sampled_from(GRAPHS),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([0.0, 0.5]),
)
def test_any_graph(
    problem: SimpleNamespace, graph: str, num_neighbors: int, alpha: float, dropout: float
) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.double)
    try:
        method = FrequencyDistillation(
            graph=graph, num_neighbors=num_neighbors, alpha=alpha, dropout=dropout, loss="squared"
        )
        check(method, problem, problem.dim, rel=1e-5)
    finally:
        torch.set_default_dtype(before)


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(1, 8), st.sampled_from(GRAPHS[:2]))
def test_the_matrix_of_neighbours(problem: SimpleNamespace, k: int, graph: str) -> None:
    method = FrequencyDistillation(graph=graph, num_neighbors=k).bind(problem.graph, 2)
    for node_type in NODES:
        expected = adjacency(method, problem.graph, node_type)
        found = dense(method, node_type, len(expected))
        np.testing.assert_allclose(found, expected, atol=1e-12)
        np.testing.assert_array_equal(found, found.T)


def test_blocks_of_rows_change_nothing(problem, monkeypatch) -> None:
    method = FrequencyDistillation().bind(problem.graph, 4)
    monkeypatch.setattr(co_interactions, "MIN_PATHS", 1)
    monkeypatch.setattr(co_interactions, "MAX_PATHS", 40)
    sizes, whole = [], co_interactions.blocks_of_paths

    def recorded(*sides: object) -> tuple[Tensor, ...]:
        blocks = whole(*sides)
        sizes.extend(map(len, blocks))
        return blocks

    monkeypatch.setattr(co_interactions, "blocks_of_paths", recorded)
    again = FrequencyDistillation().bind(problem.graph, 4)
    assert len(sizes) > 10 and sum(sizes) == 25 + 60
    for node_type in NODES:
        parts = (m.filters[node_type].get() for m in (method, again))
        assert all(map(torch.equal, *parts))


def test_a_block_has_no_more_paths_than_there_are_edges(problem, monkeypatch) -> None:
    monkeypatch.setattr(co_interactions, "MIN_PATHS", 1)
    x = interacted(problem.graph)
    paths, edges = (x @ x.sum(0)).astype(int), interactions(problem.graph)
    blocks = co_interactions.blocks_of_paths(edges.by_user(), edges.by_item())
    assert torch.equal(torch.cat(blocks), torch.arange(25))
    for rows in blocks:
        assert paths[rows].sum() <= x.sum() + paths.max()
    assert len(blocks) > 2


def test_the_smoothest_signal_passes_whole(problem) -> None:
    """The filter scales each eigenvector of the adjacency by 1 - alpha + alpha times its value."""
    method = FrequencyDistillation(graph="teacher", dropout=0.0).bind(problem.graph, 4)
    for node_type in NODES:
        rows = torch.arange(problem.graph[node_type].num_nodes)
        matrix = method.filters[node_type].get()
        values, vectors = np.linalg.eigh(adjacency(method, problem.graph, node_type))
        assert values[-1] == pytest.approx(1) and values[0] >= -1 - 1e-12
        for value, vector in ((values[-1], vectors[:, -1]), (values[0], vectors[:, 0])):
            x = {node_type: torch.from_numpy(vector.copy()).unsqueeze(1)}
            smooth = method._filtered(matrix, node_type, rows, x).squeeze(1).numpy()
            factor = 1 - method.alpha + method.alpha * value
            np.testing.assert_allclose(smooth, factor * vector, atol=1e-9)


def test_the_share_of_entries_left_out(problem) -> None:
    method = FrequencyDistillation(dropout=0.25, num_neighbors=20).bind(problem.graph, 4)
    torch.manual_seed(0)
    value = method.filters["item"].get().value
    drawn = [method._dropped("item").value / value for _ in range(40)]
    factors = torch.stack(drawn)
    assert bool(((factors == 0) | ((factors - 4 / 3).abs() < 1e-12)).all())
    share = float((factors == 0).double().mean())
    assert share == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / factors.numel()) ** 0.5)
    assert not torch.equal(drawn[0], drawn[1])


def test_neighbours_outside_the_batch_learn(problem) -> None:
    method = FrequencyDistillation(dropout=0.0).bind(problem.graph, 4)
    user = problem.batch.user[:1]
    batch = Batch(user, problem.batch.positive[:1], problem.batch.negative[:1])
    method(problem.x_dict, problem.graph, batch).backward()
    learnt = problem.x_dict["user"].grad.abs().sum(1).nonzero().flatten()
    linked = adjacency(method, problem.graph, "user")[user[0]].nonzero()[0]
    assert set(learnt.tolist()) == {*linked.tolist(), int(user[0])}


def test_nobody_is_near_an_entity_without_interactions(problem) -> None:
    graph = copy.copy(problem.graph)
    edges = graph[INTERACTS].edge_index
    graph[INTERACTS].edge_index = edges[:, edges[0] != 3]
    graph.graph_fingerprint = graph_fingerprint(graph)
    method = FrequencyDistillation().bind(graph, 4)
    matrix = dense(method, "user", 25)
    assert not matrix[3].any() and not matrix[:, 3].any() and matrix[4].any()


def test_hidden() -> None:
    assert FrequencyDistillation(hidden=7).hidden == 7
    with pytest.raises(ValueError, match=r"'hidden' must be a positive integer \(got 0\)"):
        FrequencyDistillation(hidden=0)


def test_shapes(problem) -> None:
    for hidden, found in ((None, 5), (3, 3)):
        method = FrequencyDistillation(hidden=hidden).bind(problem.graph, 4)
        shapes = [tuple(p.shape) for p in method.projectors["user"].parameters()]
        assert shapes == [(found, 4), (found,), (10, found), (10,)]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"graph": "users"}, r"'graph' must be one of \('co-interaction', .*\) \(got 'users'\)"),
        ({"loss": "l1"}, r"'loss' must be one of \('cosine', 'squared'\) \(got 'l1'\)"),
        ({"alpha": 1.01}, r"'alpha' must lie in \[0, 1\] \(got 1\.01\)"),
        ({"dropout": 1.0}, r"'dropout' must lie in \[0, 1\) \(got 1\.0\)"),
        ({"num_neighbors": 0}, r"'num_neighbors' must be a positive integer \(got 0\)"),
    ],
)
def test_refused_options(option: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrequencyDistillation(**option)
