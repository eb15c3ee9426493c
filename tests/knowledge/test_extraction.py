from __future__ import annotations

import warnings
from copy import copy

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.knowledge import TrajectoryRecorder, extract_knowledge
from pyg_kd.knowledge.confidence import trusted_lists
from pyg_kd.knowledge.requirements import graph_fingerprint, model_fingerprint
from pyg_kd.models import EASE, GFCF, MF, LightGCN, Recommender
from pyg_kd.training import Trainer
from pyg_kd.typing import INTERACTS


def oracle(scores: np.ndarray, pairs: set[tuple[int, int]], k: int) -> list[list[int]]:
    """The unseen columns of each row, best first, the lower id first among equals."""
    out = []
    for row, values in enumerate(scores):
        left = [c for c in range(len(values)) if (row, c) not in pairs]
        left.sort(key=lambda c, values=values: (-values[c], c))
        out.append((left + [-1] * k)[:k])
    return out


def scores_of(teacher, data: HeteroData) -> np.ndarray:
    x_dict = teacher(data)
    return (x_dict["user"].double() @ x_dict["item"].double().t()).detach().numpy()


def pairs_of(data: HeteroData, by_item: bool = False) -> set[tuple[int, int]]:
    pairs = data[INTERACTS].edge_index.t().tolist()
    return {(i, u) if by_item else (u, i) for u, i in pairs}


@pytest.mark.parametrize("blocks", [{}, {"row_block": 4, "col_tile": 7}, {"row_block": 1}])
@pytest.mark.parametrize("k", [1, 10, 31])
def test_rankings_of_items(data, teacher, k: int, blocks: dict) -> None:
    graph = extract_knowledge(teacher, data, num_items=k, **blocks)
    ranked = graph["user"].teacher_items
    assert ranked.dtype == torch.int32 and ranked.shape == (23, k)
    scores = scores_of(teacher, data)
    assert len(np.unique(scores[0])) < 8  # equal scores are the rule here
    assert ranked.tolist() == oracle(scores, pairs_of(data), k)
    assert "teacher_users" not in graph["item"]


@pytest.mark.parametrize("blocks", [{}, {"row_block": 5, "col_tile": 6}])
@pytest.mark.parametrize("k", [1, 8, 23])
def test_rankings_of_users(data, teacher, k: int, blocks: dict) -> None:
    graph = extract_knowledge(teacher, data, num_items=0, num_users=k, **blocks)
    ranked = graph["item"].teacher_users
    assert ranked.dtype == torch.int32 and ranked.shape == (31, k)
    assert ranked.tolist() == oracle(scores_of(teacher, data).T, pairs_of(data, True), k)
    assert "teacher_items" not in graph["user"]


def test_seen_items_never_appear_and_short_lists_are_padded(data, teacher) -> None:
    ranked = extract_knowledge(teacher, data, num_items=31)["user"].teacher_items
    degree = torch.bincount(data[INTERACTS].edge_index[0], minlength=23)
    assert torch.equal((ranked < 0).sum(1), degree)
    for user, row in enumerate(ranked.tolist()):
        assert not {(user, item) for item in row} & pairs_of(data)


def test_some_users_only(data, teacher) -> None:
    users = torch.tensor([7, 2, 19])
    whole = extract_knowledge(teacher, data, num_items=6)
    part = extract_knowledge(teacher, data, num_items=6, users=users, row_block=2)
    assert part["user"].teacher_rows.tolist() == [2, 7, 19]
    lists = part["user"].teacher_items
    assert lists.shape == (3, 6)  # nothing is allocated for others
    assert torch.equal(lists, whole["user"].teacher_items[[2, 7, 19]])
    spread = trusted_lists(part)[0]
    assert torch.equal(spread[users], whole["user"].teacher_items[users])
    others = [u for u in range(23) if u not in users.tolist()]
    assert bool((spread[others] == -1).all())


def test_ranges_of_users_make_up_the_whole(data, teacher) -> None:
    whole = extract_knowledge(teacher, data, num_items=6)["user"].teacher_items
    parts = [
        extract_knowledge(teacher, data, num_items=6, users=users)["user"].teacher_items
        for users in torch.arange(23).tensor_split(4)
    ]
    assert torch.equal(torch.cat(parts), whole)
    all_users = extract_knowledge(teacher, data, num_items=6, users=torch.arange(23).flip(0))
    assert "teacher_rows" not in all_users["user"]
    assert torch.equal(all_users["user"].teacher_items, whole)


@pytest.mark.parametrize("blocks", [{}, {"row_block": 4, "col_tile": 7}, {"row_block": 23}])
@pytest.mark.parametrize("k", [1, 6, 23])
def test_one_pass_finds_what_two_find(data, teacher, k: int, blocks: dict) -> None:
    both = extract_knowledge(teacher, data, num_items=5, num_users=k, **blocks)
    items = extract_knowledge(teacher, data, num_items=5, **blocks)
    users = extract_knowledge(teacher, data, num_items=0, num_users=k, **blocks)
    assert torch.equal(both["user"].teacher_items, items["user"].teacher_items)
    assert torch.equal(both["item"].teacher_users, users["item"].teacher_users)
    assert both["item"].teacher_users.dtype == torch.int32


def test_lists_of_all_replace_those_of_some(data, teacher) -> None:
    some = extract_knowledge(teacher, data, num_items=4, users=[1, 5])
    assert "teacher_rows" not in extract_knowledge(teacher, some, num_items=4)["user"]


@pytest.mark.parametrize("model_class", [MF, LightGCN])
def test_representations_are_final_and_constant(data, model_class) -> None:
    teacher = model_class(data, 5)
    graph = extract_knowledge(teacher, data, num_items=3)
    for node_type, x in teacher(data).items():
        stored = graph[node_type].teacher_x
        assert torch.equal(stored, x) and not stored.requires_grad
    before = graph["user"].teacher_x.clone()
    with torch.no_grad():
        teacher.user_embedding.add_(1)
    assert torch.equal(graph["user"].teacher_x, before)


def test_the_graph_given_is_left_alone(data, teacher) -> None:
    before = data.to_dict()
    graph = extract_knowledge(teacher, data, num_items=3)
    assert graph is not data and data.to_dict().keys() == before.keys()
    assert set(data["user"].keys()) == {"num_nodes"}
    assert "graph_fingerprint" not in data
    assert graph[INTERACTS].edge_index is data[INTERACTS].edge_index


def test_nothing_of_another_teacher_stays(data, teacher) -> None:
    first = extract_knowledge(teacher, data, num_items=3, num_users=2)
    known = {
        "user": {"teacher_x", "teacher_items"} & set(first["user"]),
        "item": {"teacher_x", "teacher_users"} & set(first["item"]),
    }
    assert {k: len(v) for k, v in known.items()} == {"user": 2, "item": 2}
    other = MF(data, dim=2)
    second = extract_knowledge(other, first, num_items=0)
    assert second["user"].teacher_x.size(1) == second["item"].teacher_x.size(1) == 2
    assert "teacher_items" not in second["user"] and "teacher_users" not in second["item"]
    without_space = extract_knowledge(EASE(data), first, num_items=0)
    assert not set(known["user"]) & set(without_space["user"])
    # What the same teacher said of the same graph is added to.
    more = extract_knowledge(teacher, first, num_items=4)
    assert more["user"].teacher_items.size(1) == 4
    assert torch.equal(more["item"].teacher_users, first["item"].teacher_users)
    assert known["user"] <= set(first["user"]) and known["item"] <= set(first["item"])
    # Of a graph with other edges its lists say too little.
    fewer = copy(first)
    fewer[INTERACTS].edge_index = data[INTERACTS].edge_index[:, :-1]
    assert "teacher_users" not in extract_knowledge(teacher, fewer, num_items=4)["item"]


def test_a_small_catalogue_is_ranked_whole(data, teacher) -> None:
    assert extract_knowledge(teacher, data)["user"].teacher_items.shape == (23, 31)


def test_fingerprints(data, teacher) -> None:
    graph = extract_knowledge(teacher, data, num_items=3)
    assert graph.graph_fingerprint == graph_fingerprint(data)
    assert graph.teacher_fingerprint == model_fingerprint(teacher)


def test_float64(data, teacher) -> None:
    teacher = teacher.double()
    # A difference that float32 does not see.
    with torch.no_grad():
        teacher.item_embedding += torch.linspace(0, 1e-10, 31, dtype=torch.double).unsqueeze(1)
    graph = extract_knowledge(teacher, data, num_items=31)
    assert graph["item"].teacher_x.dtype == torch.double
    expected = oracle(scores_of(teacher, data), pairs_of(data), 31)
    assert graph["user"].teacher_items.tolist() == expected
    rounded = extract_knowledge(teacher.float(), data, num_items=31)
    assert rounded["user"].teacher_items.tolist() != expected


class Dropping(MF):
    """Representations are noise while training; the score is a distance."""

    def forward(self, data: HeteroData) -> dict[str, Tensor]:
        drop = torch.nn.functional.dropout
        return {key: drop(x, 0.5, self.training) for key, x in super().forward(data).items()}

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        return -(x_user.unsqueeze(1) - x_item).square().sum(2)


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_restored(data, training: bool) -> None:
    teacher = Dropping(data, 4).train(training)
    graph = extract_knowledge(teacher, data, num_items=3)
    assert teacher.training is training
    assert torch.equal(graph["user"].teacher_x, teacher.user_embedding)


def test_mode_is_restored_after_a_failure(data) -> None:
    teacher = Dropping(data, 4).train()

    def broken(data: HeteroData) -> dict[str, Tensor]:
        raise RuntimeError("no representations")

    teacher.forward = broken
    with pytest.raises(RuntimeError, match="no representations"):
        extract_knowledge(teacher, data, num_items=3)
    assert teacher.training


def test_a_score_that_is_no_inner_product(data) -> None:
    teacher = Dropping(data, 4).eval()
    with torch.no_grad():
        for weight in teacher.parameters():
            weight.copy_(torch.randint(-3, 4, weight.shape))
    graph = extract_knowledge(teacher, data, num_items=9, num_users=7, row_block=4, col_tile=5)
    user, item = (teacher(data)[key].detach().numpy() for key in ("user", "item"))
    scores = -((user[:, None] - item) ** 2).sum(2)
    assert graph["user"].teacher_items.tolist() == oracle(scores, pairs_of(data), 9)
    assert graph["item"].teacher_users.tolist() == oracle(scores.T, pairs_of(data, True), 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_items": 32}, r"'num_items' must lie in 0\.\.31 \(got 32\)"),
        ({"num_items": -1}, r"'num_items'.*-1"),
        ({"num_items": 3, "num_users": 24}, r"'num_users' must lie in 0\.\.23 \(got 24\)"),
        ({"num_items": 500}, r"'num_items'.*500"),
        ({"num_items": 3, "users": torch.tensor([23])}, r"'users' must lie in 0\.\.22 \(got 23\)"),
        ({"num_items": 3, "users": torch.tensor([-1])}, r"'users'.*-1"),
        ({"num_items": 3, "users": [[1]]}, r"'users' must be one-dim.*\[1, 1\]"),
        ({"num_items": 3, "row_block": 0}, "'row_block'.*0"),
    ],
)
def test_refused_options(data, teacher, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extract_knowledge(teacher, data, **options)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("node_type", ["user", "item"])
def test_a_broken_teacher(data, teacher, node_type: str, value: float) -> None:
    with torch.no_grad():
        getattr(teacher, f"{node_type}_embedding")[5, 1] = value
    with pytest.raises(ValueError, match=f"{node_type!r} (are not all finite|that are NaN)"):
        extract_knowledge(teacher, data, num_items=3)


def test_a_teacher_that_is_no_recommender(data) -> None:
    with pytest.raises(TypeError, match=r"\(got Linear\).*from_embeddings"):
        extract_knowledge(torch.nn.Linear(2, 2), data)


def test_a_teacher_of_another_size(data) -> None:
    other = HeteroData()
    other["user"].num_nodes, other["item"].num_nodes = 23, 30
    other[INTERACTS].edge_index = torch.zeros(2, 1, dtype=torch.long)
    with pytest.raises(ValueError, match=r"23 users and 31 items.*23 and 30"):
        extract_knowledge(MF(other, 3), data, num_items=3)


def test_half_precision_is_ranked_in_full(data, teacher) -> None:
    expected = extract_knowledge(teacher, data, num_items=9)["user"].teacher_items
    found = extract_knowledge(teacher.bfloat16(), data, num_items=9)["user"].teacher_items
    assert torch.equal(found, expected)  # small whole numbers are exact in it


def fitted(data: HeteroData) -> MF:
    model = MF(data, 3)
    Trainer(max_epochs=1, progress=False).fit(model, data)
    return model


def part_of(data: HeteroData) -> HeteroData:
    """The graph without an edge, which may have been a target."""
    other = data.clone()
    other[INTERACTS].edge_index = other[INTERACTS].edge_index[:, :-1]
    return other


def test_a_teacher_that_may_have_seen_the_targets(data) -> None:
    teacher, train = fitted(data), part_of(data)
    extract_knowledge(teacher, data, num_items=3)
    again = MF(data, 3)
    again.load_state_dict(teacher.state_dict())
    for model in (teacher, again):
        with pytest.raises(ValueError, match=rf"another graph.*{teacher.fitted_on[:12]}.*trusted"):
            extract_knowledge(model, train, num_items=3)
        with pytest.raises(ValueError, match="another graph"):
            TrajectoryRecorder(num_items=3)(0, model, train)
    graph = extract_knowledge(teacher, train, num_items=3, trusted=True)
    assert graph.graph_fingerprint == graph_fingerprint(train)


def test_the_order_of_edges_makes_no_other_graph(data) -> None:
    teacher, edges = fitted(data), data[INTERACTS].edge_index
    data[INTERACTS].edge_index = edges[:, torch.randperm(edges.size(1))].repeat(1, 2)
    extract_knowledge(teacher, data, num_items=3)


def test_models_in_closed_form_know_their_graph(data) -> None:
    for teacher in (EASE(data, l2=1.0), GFCF(data, 2)):
        with pytest.raises(ValueError, match="other edges than the graph"):
            extract_knowledge(teacher, part_of(data), num_items=3)


def test_of_vectors_nobody_knows(data) -> None:
    x_dict = {key: x.detach() for key, x in fitted(data)(data).items()}
    teacher = Recommender.from_embeddings(data, x_dict["user"], x_dict["item"])
    assert teacher.fitted_on is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extract_knowledge(teacher, part_of(data), num_items=3)


@pytest.mark.parametrize("value", ["3", 3.0, None, True])
@pytest.mark.parametrize("name", ["num_items", "num_users"])
def test_lengths_that_are_no_integers(data, teacher, name: str, value: object) -> None:
    if name == "num_items" and value is None:
        pytest.skip("is the default")
    with pytest.raises(TypeError, match=rf"'{name}' must be an integer \(got {value!r}\)"):
        extract_knowledge(teacher, data, **{name: value})
