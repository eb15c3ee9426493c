from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.graph import interactions
from pyg_kd.models import NeuMF, Recommender
from pyg_kd.study.refresh import Lists, NamedTeacher, Recipe, SoftLabelStudent, Tables
from pyg_kd.study.refresh.part import part_of
from pyg_kd.transforms import TimeStep
from pyg_kd.typing import ITEM, USER


def test_a_part_has_the_edges_among_its_nodes(steps: list[TimeStep]) -> None:
    graph = steps[0].test
    users, items = torch.arange(120) % 3 > 0, torch.arange(90) % 4 > 0
    part = part_of(graph, users, items)
    wanted = {
        (u, i) for u, i in interactions(graph).edge_index.t().tolist() if users[u] and items[i]
    }
    user, item = interactions(part.graph).edge_index
    pairs = zip(part.user[user].tolist(), part.item[item].tolist(), strict=True)
    assert set(pairs) == wanted
    assert part.user.tolist() == sorted({u for u, _ in wanted})
    assert part.item.tolist() == items.nonzero().view(-1).tolist()
    everything = part_of(graph)
    assert everything.item.tolist() == sorted(set(interactions(graph).edge_index[1].tolist()))
    assert graph[USER].num_nodes == 120 and "raw_id" not in graph[ITEM]
    with pytest.raises(ValueError, match="'graph' must have edges among what stays"):
        part_of(graph, users & ~users)


def test_a_teacher_ranks_as_its_model(steps: list[TimeStep], recipe: Recipe) -> None:
    graph = steps[0].test
    seen = interactions(graph).by_user()
    found = recipe.new_teacher(graph, 1)
    assert isinstance(found, Tables if recipe.teacher.name == "als" else Lists)  # type: ignore[attr-defined]
    part = part_of(graph)
    model = recipe.teacher(part.graph, 1)
    lists, _ = model.recommend(part.graph, k=5)
    ranked = found.ranked(part.user, seen, 5, torch.zeros(90))
    assert torch.equal(torch.where(lists < 0, -1, part.item[lists]), ranked)
    assert found.has_user.nonzero().view(-1).tolist() == part.user.tolist()


def test_a_student_is_told_of_unseen_items_alone(steps: list[TimeStep], recipe: Recipe) -> None:
    """An old teacher's lists, on a later graph, hold nothing that was seen since."""
    teacher = recipe.new_teacher(steps[0].test, 0)
    later = steps[2].test
    told: list[HeteroData] = []

    def student(graph: HeteroData, seed: int, start: Any) -> Recommender:
        told.append(graph)
        assert start is None and seed == 7
        return Recommender.from_embeddings(
            graph, torch.ones(graph[USER].num_nodes, 2), torch.ones(graph[ITEM].num_nodes, 2)
        )

    found = Recipe(recipe.teacher, student, num_items=20).new_student(later, teacher, 7)
    (graph,) = told
    seen = {(u, i) for u, i in interactions(graph).edge_index.t().tolist()}
    lists = graph[USER].teacher_items
    assert lists.shape == (graph[USER].num_nodes, 20)
    for user, row in enumerate(lists.tolist()):
        listed = [item for item in row if item >= 0]
        assert row == listed + [-1] * (20 - len(listed))
        assert not {(user, item) for item in listed} & seen and len(listed) == len(set(listed))
    assert found.has_user.tolist() == [
        bool(t and d) for t, d in zip(teacher.has_user, interactions(later).by_user().degree,
                                      strict=True)
    ]  # fmt: skip
    ranked = teacher.ranked(
        found.has_user.nonzero().view(-1), interactions(later).by_user(), 3, torch.zeros(90)
    )
    ids = found.has_item.nonzero().view(-1)
    assert torch.equal(ids[lists[:, :3].long()], ranked)


def test_a_student_goes_on_from_where_it_was(steps: list[TimeStep], recipe: Recipe) -> None:
    graph = steps[0].test
    teacher = recipe.new_teacher(graph, 0)
    first = recipe.new_student(graph, teacher, 0)
    some = torch.arange(120) < 30
    second = recipe.new_student(graph, teacher, 0, users=some, start=first)
    moved = (second.user != first.user).any(1)
    assert bool(moved[some & first.has_user].all()) and not bool(moved[~some].any())
    assert torch.equal(second.has_user, first.has_user)
    # Small steps: what it starts from is what it was.
    assert float((second.user - first.user).abs().mean()) < float(first.user.abs().mean())


def test_the_named_student_starts_from_the_vectors_given(steps: list[TimeStep]) -> None:
    recipe = Recipe(NamedTeacher("als"), SoftLabelStudent(dim=3, tuning_epochs=1, tuning_lr=1e-9))
    graph = steps[0].test
    teacher = recipe.new_teacher(graph, 0)
    part = part_of(graph)
    start = {USER: torch.randn(len(part.user), 3), ITEM: torch.randn(len(part.item), 3)}
    told = recipe.knowledge(teacher, part, interactions(graph).by_user())
    model = recipe.student(told, 0, start)
    assert torch.allclose(model.user_embedding, start[USER], atol=1e-6)
    assert torch.allclose(model.item_embedding, start[ITEM], atol=1e-6)


def test_students_score_by_inner_products(steps: list[TimeStep]) -> None:
    recipe = Recipe(student=lambda graph, seed, start: NeuMF(graph, 4))
    teacher = recipe.new_teacher(steps[0].test, 0)
    with pytest.raises(ValueError, match=r"'student' must score by inner products \(got NeuMF\)"):
        recipe.new_student(steps[0].test, teacher, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recipe(num_items=0), "'num_items' must be a positive integer"),
        (lambda: SoftLabelStudent(dim=0), "'dim' must be a positive integer"),
        (lambda: SoftLabelStudent(epochs=0), "'epochs' must be a positive integer"),
        (lambda: SoftLabelStudent(tuning_lr=0.0), "'tuning_lr' must be positive"),
    ],
)
def test_options_are_checked(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
