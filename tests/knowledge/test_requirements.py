from __future__ import annotations

import copy

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.knowledge import (
    TrajectoryRecorder,
    attach_trajectories,
    extract_knowledge,
    requirements,
)
from pyg_kd.knowledge.requirements import (
    KNOWLEDGE,
    RANKED,
    check_knowledge,
    check_width,
    graph_fingerprint,
    knowledge_key,
    model_fingerprint,
    source_fingerprint,
)
from pyg_kd.models import EASE, MF, LightGCN, MultiBranch
from pyg_kd.typing import INTERACTS


@pytest.fixture
def graph(data, teacher):
    graph = extract_knowledge(teacher, data, num_items=5, num_users=4)
    recorder = TrajectoryRecorder(num_items=5, num_states=1)
    return attach_trajectories(graph, [recorder.finish(teacher, graph)])


def test_everything_is_there(graph) -> None:
    check_knowledge(graph, "Some", tuple(KNOWLEDGE))
    fingerprints = graph.graph_fingerprint, graph.teacher_fingerprint
    assert knowledge_key(graph) == (*fingerprints, *graph.trajectory_fingerprints)


def test_a_teacher_without_vectors(data) -> None:
    graph = extract_knowledge(EASE(data, l2=1.0), data, num_items=5)
    with pytest.raises(ValueError, match=r"provides no embeddings.*'teacher_items'"):
        check_knowledge(graph, "Some", ("teacher_x",))


def test_nothing_is_needed(data) -> None:
    check_knowledge(data, "Some", ())
    assert knowledge_key(data) == ("", "")


@pytest.mark.parametrize(
    ("need", "node_type", "call"),
    [
        ("teacher_x", "user", r"extract_knowledge\(teacher, data\)"),
        ("teacher_x", "item", r"extract_knowledge\(teacher, data\)"),
        ("teacher_items", "user", r"extract_knowledge\(teacher, data, num_items=500\)"),
        ("teacher_users", "item", r"extract_knowledge\(teacher, data, num_users=500\)"),
        ("teacher_trajectory", "user", r"attach_trajectories\(data, trajectories\)"),
        ("teacher_observed", "user", r"attach_trajectories\(data, trajectories\)"),
    ],
)
def test_missing(graph, need: str, node_type: str, call: str) -> None:
    del graph[node_type][need]
    message = rf"Some needs 'graph\['{node_type}'\]\.{need}', which is missing: call graph = {call}"
    with pytest.raises(ValueError, match=message):
        check_knowledge(graph, "Some", (need,))


def test_wrong_number_of_rows(graph) -> None:
    graph["item"].teacher_x = graph["item"].teacher_x[:-2]
    with pytest.raises(ValueError, match=r"'graph\['item'\]\.teacher_x' has 29 rows for 31 nodes"):
        check_knowledge(graph, "Some", ("teacher_x",))


def test_ids_that_do_not_exist(graph) -> None:
    graph["user"].teacher_items[3, 1] = 31
    with pytest.raises(ValueError, match=r"teacher_items' must hold ids in 0\.\.30.*row 3"):
        check_knowledge(graph, "Some", ("teacher_x", "teacher_items"))
    check_knowledge(graph, "Some", ("teacher_x",))


@pytest.mark.parametrize("need", list(RANKED))
def test_lists_without_an_id(graph, need: str) -> None:
    node_type = KNOWLEDGE[need][0][0]
    lists = graph[node_type][need]
    graph[node_type][need] = torch.full_like(lists, -1)
    with pytest.raises(ValueError, match=rf"Some needs .*{need}', but all of its lists are empty"):
        check_knowledge(graph, "Some", (need,))
    graph[node_type][need][-1] = lists[-1]
    check_knowledge(graph, "Some", (need,))


def test_vectors_of_two_widths(graph) -> None:
    graph["item"].teacher_x = torch.ones(31, 5)
    with pytest.raises(ValueError, match=r"'teacher_x' .* same width \(got 3 and 5\)"):
        check_knowledge(graph, "Some", ("teacher_x",))


def test_trajectories_that_do_not_fit_together(graph) -> None:
    both = ("teacher_trajectory", "teacher_observed")
    graph["user"].teacher_observed = graph["user"].teacher_observed.repeat(1, 2, 1, 1)
    with pytest.raises(ValueError, match=r"\(got \[\[1, 1\], \[2, 1\]\]\)"):
        check_knowledge(graph, "Some", both)
    for need in both:
        check_knowledge(graph, "Some", (need,))


@pytest.mark.parametrize(
    ("need", "width", "message"),
    [
        ("teacher_items", 5, r"5 items a user: call extract_knowledge with num_items >= 6"),
        ("teacher_users", 4, r"4 users an item: call extract_knowledge with num_users >= 5"),
        ("teacher_trajectory", 5, r"5 items a user: call TrajectoryRecorder with num_items >= 6"),
    ],
)
def test_lists_that_are_too_short(graph, need: str, width: int, message: str) -> None:
    check_width(graph, "Some", need, width, "num_listed")
    message = f"Some: 'num_listed' is {width + 1}, but the graph ranks {message}"
    with pytest.raises(ValueError, match=message):
        check_width(graph, "Some", need, width + 1, "num_listed")


def test_more_pairs_than_int64_numbers() -> None:
    # The keys of these two edges differ by 2**64: with an overflow they were one graph.
    for edge in ([1, 0], [0, 0]):
        data = HeteroData()
        data["user"].num_nodes, data["item"].num_nodes = 2**33, 2**62
        data[INTERACTS].edge_index = torch.tensor(edge).unsqueeze(1)
        with pytest.raises(ValueError, match=r"2\*\*63 pairs .*8589934592 users"):
            graph_fingerprint(data)


def test_other_edges(graph) -> None:
    graph[INTERACTS].edge_index = graph[INTERACTS].edge_index[:, :-1]
    with pytest.raises(ValueError, match=f"another graph.*{graph.graph_fingerprint[:12]}"):
        check_knowledge(graph, "Some", ("teacher_x",))


def test_no_fingerprint(graph) -> None:
    del graph.graph_fingerprint
    with pytest.raises(ValueError, match=r"another graph .*that of the knowledge None\)"):
        check_knowledge(graph, "Some", ("teacher_x",))


def with_edges(data: HeteroData, edge_index: torch.Tensor) -> HeteroData:
    other = data.clone()
    other[INTERACTS].edge_index = edge_index
    return other


def test_order_and_repetition_do_not_count(data) -> None:
    expected, edges = graph_fingerprint(data), data[INTERACTS].edge_index
    assert len(expected) == 64
    for index in (
        torch.randperm(edges.size(1)),
        torch.arange(edges.size(1)).flip(0),
        torch.arange(edges.size(1)).repeat(2),
        torch.cat([torch.arange(edges.size(1)), torch.tensor([3])]),
        (edges[0] * 31 + edges[1]).argsort(),
    ):
        assert graph_fingerprint(with_edges(data, edges[:, index])) == expected


def test_every_edge_counts(data) -> None:
    edges = data[INTERACTS].edge_index
    seen = {graph_fingerprint(data)}
    for e in range(edges.size(1)):
        others = torch.cat([edges[:, :e], edges[:, e + 1 :]], 1)
        seen.add(graph_fingerprint(with_edges(data, others)))
    assert len(seen) == edges.size(1) + 1


def test_one_edge_moved(data) -> None:
    edges = data[INTERACTS].edge_index
    pairs = set(map(tuple, edges.t().tolist()))
    user = int(edges[0, 0])
    moved = edges.clone()
    moved[1, 0] = next(i for i in range(31) if (user, i) not in pairs)
    assert graph_fingerprint(with_edges(data, moved)) != graph_fingerprint(data)


@pytest.mark.parametrize("node_type", ["user", "item"])
def test_sizes_count(data, node_type: str) -> None:
    other = data.clone()
    other[node_type].num_nodes += 1
    assert graph_fingerprint(other) != graph_fingerprint(data)


def test_sizes_do_not_stand_in_for_each_other() -> None:
    # The same key, user * items + item, of graphs of different shapes.
    prints = set()
    for num_users, num_items, edge in (
        (2, 6, (1, 0)),
        (3, 3, (2, 0)),
        (7, 2, (3, 0)),
        (2, 7, (0, 6)),
        (2, 8, (0, 6)),
        (3, 8, (0, 6)),
    ):
        data = HeteroData()
        data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
        data[INTERACTS].edge_index = torch.tensor(edge).unsqueeze(1)
        prints.add(graph_fingerprint(data))
    assert len(prints) == 6


def test_what_else_a_graph_carries_does_not_count(data) -> None:
    other = data.clone()
    other["user"].x = torch.ones(23, 2)
    other[INTERACTS].time = torch.arange(other[INTERACTS].edge_index.size(1))
    assert graph_fingerprint(other) == graph_fingerprint(data)


def test_a_graph_without_edges(data) -> None:
    empty = with_edges(data, torch.empty(2, 0, dtype=torch.long))
    assert graph_fingerprint(empty) != graph_fingerprint(data)


def test_weights_of_a_teacher_count(teacher) -> None:
    expected = model_fingerprint(teacher)
    assert model_fingerprint(teacher) == expected
    for weight in teacher.parameters():
        old = weight.detach().clone()
        with torch.no_grad():
            weight[-1, -1] += 1e-6
        assert model_fingerprint(teacher) != expected
        with torch.no_grad():
            weight.copy_(old)
    assert model_fingerprint(teacher) == expected


def test_class_and_precision_of_a_teacher_count(data) -> None:
    model = MF(data, 3)
    other = LightGCN(data, 3)
    tensors = {name: x for name, x in model.state_dict().items() if name != "_extra_state"}
    other.load_state_dict(tensors)
    prints = {model_fingerprint(model), model_fingerprint(other)}
    prints.add(model_fingerprint(model.double()))
    assert len(prints) == 3


def test_options_that_change_what_the_same_weights_compute(data) -> None:
    shallow, deep = LightGCN(data, 3, num_layers=1), LightGCN(data, 3, num_layers=2)
    deep.load_state_dict(
        {name: x for name, x in shallow.state_dict().items() if "_extra" not in name}
    )
    assert model_fingerprint(shallow) != model_fingerprint(deep)
    shallow.num_layers = 2
    assert model_fingerprint(shallow) == model_fingerprint(deep)
    wrapped = [torch.nn.Sequential(LightGCN(data, 3, num_layers=n)) for n in (1, 2)]
    wrapped[1][0].user_embedding, wrapped[1][0].item_embedding = wrapped[0][0].parameters()
    assert model_fingerprint(wrapped[0]) != model_fingerprint(wrapped[1])


class Featured(MF):
    """A model of another package, which may read whatever a graph holds."""


def featured(data: HeteroData) -> HeteroData:
    graph = copy.copy(data)
    generator = torch.Generator().manual_seed(0)
    store = graph[INTERACTS]
    graph["item"].x = torch.rand(graph["item"].num_nodes, 3, generator=generator)
    store.weight = torch.rand(store.edge_index.size(1), generator=generator)
    graph["item"].raw_id = torch.arange(graph["item"].num_nodes)
    graph["tag"].num_nodes = 2
    graph["item", "has", "tag"].edge_index = torch.tensor([[0, 1], [0, 1]])
    return graph


def test_what_a_teacher_may_read_of_a_graph_counts(data) -> None:
    graph = featured(data)
    ours, other = MF(data, 3), Featured(data, 3)
    assert source_fingerprint(ours, graph) == model_fingerprint(ours)
    assert source_fingerprint(other, data) == model_fingerprint(other)
    expected = source_fingerprint(other, graph)
    assert expected != model_fingerprint(other)

    shuffled, order = copy.copy(graph), torch.randperm(graph[INTERACTS].edge_index.size(1))
    for name in ("edge_index", "weight"):
        shuffled[INTERACTS][name] = graph[INTERACTS][name][..., order]
    shuffled["item"].raw_id = graph["item"].raw_id + 1
    shuffled[INTERACTS].edge_label_index = torch.tensor([[0], [0]])
    assert source_fingerprint(other, extract_knowledge(ours, shuffled, num_items=2)) == expected

    for node, name in (
        ("item", "x"),
        (INTERACTS, "weight"),
        (("item", "has", "tag"), "edge_index"),
    ):
        changed = copy.copy(graph)
        changed[node][name] = graph[node][name].clone()
        changed[node][name].flatten()[0] += 1
        assert source_fingerprint(other, changed) != expected


def test_knowledge_of_other_features_is_of_another_source(data) -> None:
    teacher, graph = Featured(data, 3), featured(data)
    before = extract_knowledge(teacher, graph, num_items=3, num_users=3)
    before["item"].x = before["item"].x + 1
    after = extract_knowledge(teacher, before, num_items=3)
    assert after.teacher_fingerprint != before.teacher_fingerprint
    assert "teacher_users" not in after["item"]


def test_views_of_one_model_differ(data) -> None:
    model = MultiBranch(data, 8)
    views = [model.head(name) for name in model.heads]
    views += [model.consensus(), model.consensus(num_listed=5), model.consensus(temperature=2.0)]
    assert len(set(map(model_fingerprint, views))) == len(views)
    assert model_fingerprint(model.head("bpr")) == model_fingerprint(views[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(teacher, dtype: torch.dtype) -> None:
    assert len(model_fingerprint(teacher.to(dtype))) == 64


def test_buffers_count_where_they_are_saved(data) -> None:
    class Fixed(torch.nn.Module):
        def __init__(self, kept: torch.Tensor, scratch: float = 0.0) -> None:
            super().__init__()
            self.register_buffer("kept", kept)
            self.register_buffer("scratch", torch.tensor(scratch), persistent=False)

    plain = model_fingerprint(Fixed(torch.arange(6)))
    assert model_fingerprint(Fixed(torch.arange(6), scratch=1.0)) == plain
    others = [torch.arange(6).flip(0), torch.arange(6.0), torch.arange(6).view(2, 3)]
    others += [torch.tensor(3), torch.zeros(0), torch.ones(3, dtype=torch.bool)]
    assert len({plain, *(model_fingerprint(Fixed(other)) for other in others)}) == 7


def test_tensors_of_several_parts(monkeypatch, data) -> None:
    model = MF(data, 5)
    expected = model_fingerprint(model)
    for size in (1, 7):
        monkeypatch.setattr(requirements, "PART", size)
        assert model_fingerprint(model) == expected
