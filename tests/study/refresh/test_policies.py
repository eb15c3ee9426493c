from __future__ import annotations

import pytest
import torch

from pyg_kd.graph import interactions
from pyg_kd.study.refresh import (
    DistilAgain,
    FineTune,
    FoldInOnly,
    Never,
    NewTeacher,
    Recipe,
    Served,
    SoftLabelStudent,
    Tables,
    Task,
    folded,
)
from pyg_kd.transforms import TimeStep


@pytest.fixture
def base(steps: list[TimeStep], recipe: Recipe) -> Served:
    return Task(steps[:1], recipe, 5).from_scratch()


def _same(one: Tables, other: Tables) -> bool:
    names = ("user", "item", "has_user", "has_item")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def test_the_base_serves_everybody_known(steps: list[TimeStep], base: Served) -> None:
    edges = interactions(steps[0].test)
    assert torch.equal(base.student.has_user, edges.by_user().degree > 0)
    assert torch.equal(base.student.has_item, edges.by_item().degree > 0)
    assert base.popularity.tolist() == torch.bincount(edges.edge_index[1], minlength=90).tolist()


def test_never_and_fold_in(steps: list[TimeStep], recipe: Recipe, base: Served) -> None:
    task = Task(steps[:2], recipe, 5)
    assert Never()(base, task) is base and task.cost.seconds == {}
    served = FoldInOnly()(base, task)
    wanted = folded(base.trained, steps[0].test, steps[1].test, seed=5)
    assert _same(served.student, wanted) and set(task.cost.seconds) == {"fold-in"}
    # The next one starts from what was trained, not from what was folded in.
    later = FoldInOnly()(served, Task(steps, recipe, 5))
    assert _same(later.student, folded(base.trained, steps[0].test, steps[2].test, seed=5))
    assert later.trained_at == later.taught_at == 0


def test_fine_tuning_moves_those_of_the_last_block(
    steps: list[TimeStep], recipe: Recipe, base: Served
) -> None:
    task = Task(steps[:2], recipe, 5)
    served = FineTune()(base, task)
    before = folded(base.trained, steps[0].test, steps[1].test, seed=5)
    degree = [interactions(step.test).by_user().degree for step in steps[:2]]
    active = degree[1] > degree[0]
    moved = (served.student.user != before.user).any(1)
    assert bool(moved.any()) and not bool(moved[~active].any())
    # Users who had none are not among those of a teacher of lists, and keep the fold-in.
    assert int(moved.sum()) > 0.9 * int((active & (degree[0] > 0)).sum())
    assert bool((served.student.item != before.item).any())
    assert served.trained_at == 1 and served.taught_at == 0
    assert served.trained is served.student
    wide = FineTune(replay=1.0)(base, Task(steps[:2], recipe, 5))
    assert bool((wide.student.user != before.user).any(1)[~active & (degree[0] > 0)].all())


def test_distilling_again_is_a_new_student_of_the_old_teacher(
    steps: list[TimeStep], recipe: Recipe, base: Served
) -> None:
    task = Task(steps, recipe, 5)
    served = DistilAgain()(base, task)
    teacher = base.teacher
    if isinstance(teacher, Tables):
        teacher = folded(teacher, steps[0].test, steps[2].test, seed=5)
    student = recipe.new_student(steps[2].test, teacher, 5)
    assert _same(served.student, folded(student, steps[2].test, steps[2].test, seed=5))
    assert served.teacher is base.teacher and (served.trained_at, served.taught_at) == (2, 0)
    known = interactions(steps[2].test).by_user().degree > 0
    assert torch.equal(served.student.has_user, known)


def test_another_student_may_be_distilled_again(
    steps: list[TimeStep], recipe: Recipe, base: Served
) -> None:
    """The same teacher and another student: it raises what users have."""
    student = SoftLabelStudent(dim=4, epochs=60, own_weight=5.0)
    policy = DistilAgain(student, "own items")
    task = Task(steps, recipe, 5)
    served = policy(base, task)
    assert policy.name == "distil again, own items" and "student" in task.cost.seconds
    plain = DistilAgain(SoftLabelStudent(dim=4, epochs=60))(base, Task(steps, recipe, 5))
    user, item = interactions(steps[2].test).edge_index
    scores = [
        float((s.student.user[user] * s.student.item[item]).sum(1).mean()) for s in (served, plain)
    ]
    assert scores[0] > scores[1] + 0.3


def test_a_new_teacher_is_what_a_first_one_would_be(
    steps: list[TimeStep], recipe: Recipe, base: Served
) -> None:
    task = Task(steps, recipe, 5)
    served = NewTeacher()(base, task)
    fresh = Task(steps, recipe, 5).from_scratch()
    assert _same(served.student, fresh.student)
    assert (served.trained_at, served.taught_at) == (2, 2)
    assert set(task.cost.seconds) == {"teacher", "student", "fold-in"}
    assert all(seconds >= 0 for seconds in task.cost.seconds.values())


def test_a_new_teacher_now_and_then(steps: list[TimeStep], recipe: Recipe, base: Served) -> None:
    policy = NewTeacher(every=2)
    between = policy(base, Task(steps[:2], recipe, 5))
    assert _same(between.student, FoldInOnly()(base, Task(steps[:2], recipe, 5)).student)
    assert policy(between, Task(steps, recipe, 5)).taught_at == 2
    assert policy.name == "new teacher, every 2" and NewTeacher().name == "new teacher"


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match=r"'replay' must lie in 0..1 \(got 1.5\)"):
        FineTune(replay=1.5)
    with pytest.raises(ValueError, match=r"'every' must be a positive integer \(got 0\)"):
        NewTeacher(every=0)
    assert FineTune(0.25).name == "fine-tune, replay 0.25"
