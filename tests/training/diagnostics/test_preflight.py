from __future__ import annotations

import pytest
import torch
from scipy import stats

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.evaluation import evaluate
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import EASE, MF, KernelRidge
from pyg_kd.training import AlternatingLeastSquares
from pyg_kd.training.diagnostics import diagnose_teacher
from pyg_kd.training.teachers import FACTORISATIONS, factorisation
from pyg_kd.transforms import UserSplit


@pytest.fixture(scope="module")
def split():
    data = SyntheticInteractions(num_users=300, num_items=120, num_edges=6_000)[0]
    return UserSplit(val=0.2, test=0.1, seed=0)(data)


def test_values_are_those_of_evaluate_and_the_test_that_of_scipy(split):
    train, val, _ = split
    teacher = KernelRidge(train)
    verdict = diagnose_teacher(teacher, train, val, dim=8, metric="ndcg@10")
    found = evaluate(teacher, train, val, 10, ("ndcg",), per_user=True)
    assert verdict.value == pytest.approx(found.mean["ndcg@10"])
    narrow = [
        evaluate(factorisation(train, 8, s, 0, False), train, val, 10, ("ndcg",), per_user=True)
        for s in range(len(FACTORISATIONS))
    ]
    best = max(narrow, key=lambda run: run.mean["ndcg@10"])
    opponent = verdict.opponents[1]
    assert opponent.name == "factorisation of width 8"
    assert opponent.value == pytest.approx(best.mean["ndcg@10"])
    test = stats.ttest_rel(found.values["ndcg@10"].numpy(), best.values["ndcg@10"].numpy())
    assert opponent.interval == pytest.approx(tuple(test.confidence_interval()))
    assert verdict.teaches and verdict.notes == (
        "The teacher beats all of them: it has something to teach.",
    )


def test_a_wide_teacher_worse_than_a_narrow_one_is_told(split):
    train, val, _ = split
    torch.manual_seed(0)
    # Next to no penalty: 100 directions learn the training items by heart.
    wide = AlternatingLeastSquares(alpha=1.0, regularization=1e-3, progress=False)
    verdict = diagnose_teacher(wide.fit(MF(train, dim=100), train), train, val, dim=8)
    assert verdict.opponents[1].verdict == "not beaten" and not verdict.teaches
    assert verdict.notes[0].startswith("The teacher doesn't beat")
    assert "factorisation of width 8" in verdict.notes[0]
    assert "not beaten" in str(verdict)


def test_students_and_graphs_of_lists_are_taken(split):
    train, val, _ = split
    teacher = EASE(train)
    graph = extract_knowledge(teacher, train, num_items=30)
    by_lists = diagnose_teacher(graph, train, val, dim=8, students={"itself": teacher})
    by_model = diagnose_teacher(teacher, train, val, dim=8)
    assert by_lists.value == by_model.value
    itself = by_lists.opponents[2]
    assert (itself.name, itself.difference, itself.verdict) == ("itself", 0, "not beaten")
    assert by_lists.to_dict()["teaches"] is False


def test_a_teacher_of_popularity_is_told(split):
    train, val, _ = split
    degree = train["user", "item"].edge_index[1].bincount(minlength=120).float()
    popular = MF.from_embeddings(train, torch.ones(300, 1), degree[:, None])
    verdict = diagnose_teacher(popular, train, val, dim=8)
    assert verdict.popular == pytest.approx(1) and verdict.opponents[0].verdict == "not beaten"
    assert "it teaches popularity" in verdict.notes[-1]


def test_few_users_leave_it_open(split):
    train, val, _ = split
    few = val.clone()
    label = few["user", "item"].edge_label_index
    few["user", "item"].edge_label_index = label[:, label[0] < 4]
    verdict = diagnose_teacher(EASE(train), train, few, dim=8)
    assert "open" in {one.verdict for one in verdict.opponents}
    assert any("too few to tell" in note for note in verdict.notes)


def test_bad_input_is_named(split):
    train, val, _ = split
    with pytest.raises(TypeError, match="'teacher' must be a Recommender, or a graph"):
        diagnose_teacher(train, train, val)
    graph = extract_knowledge(EASE(train), train, num_items=10)
    with pytest.raises(ValueError, match="'teacher' must list 20 items"):
        diagnose_teacher(graph, train, val)
    with pytest.raises(ValueError, match="there are 120 items"):
        diagnose_teacher(EASE(train), train, val, metric="recall@500")


def test_a_teacher_of_another_graph_is_refused(split):
    train, val, test = split
    # It has seen what it is to be validated on.
    leaking = AlternatingLeastSquares(progress=False).fit(MF(test, dim=8), test)
    lists = extract_knowledge(leaking, test, num_items=20)
    for teacher in (leaking, lists):
        with pytest.raises(ValueError, match=r"'teacher' .* another graph"):
            diagnose_teacher(teacher, train, val, dim=8)
        assert diagnose_teacher(teacher, train, val, dim=8, trusted=True).metric == "recall@20"
    with pytest.raises(ValueError, match="another graph"):
        diagnose_teacher(EASE(train), train, val, dim=8, students={"leaking": leaking})
