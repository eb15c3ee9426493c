from __future__ import annotations

import json
import warnings

import pytest
import torch

from pyg_kd import compress, evaluate, extract_knowledge
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.knowledge import fuse
from pyg_kd.models import CML, EASE, MF, LightGCN
from pyg_kd.training import CompressionReport, validate
from pyg_kd.training.validation import Validation
from pyg_kd.transforms import UserSplit

OF_FEW_EPOCHS = pytest.mark.filterwarnings("ignore:the student is no better than factorisation")


@pytest.fixture(scope="module")
def split():
    data = SyntheticInteractions(num_users=300, num_items=150, num_edges=9_000)[0]
    return UserSplit(seed=0)(data)


@pytest.fixture(scope="module")
def compressed(split):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return compress(*split[:2], dim=8, progress=False)


def test_a_student_nears_its_ensemble(split, compressed) -> None:
    train, val, test = split
    student, report = compressed
    assert isinstance(student, MF) and student.dim == 8
    narrow, ensemble, learned = (
        report.value(name) for name in ("factorisation of width 8", "ensemble", "student")
    )
    assert ensemble > narrow > report.value("popularity")
    assert learned > narrow + 0.5 * (ensemble - narrow)
    found = validate(student, train, val, "recall@20")["recall@20"]
    assert found == pytest.approx(learned, abs=1e-7)
    assert evaluate(student, train, test, k=20)["recall@20"] > 0.8 * learned


def test_the_report_tells_what_was_done(compressed) -> None:
    _, report = compressed
    assert report.names == [
        "popularity",
        "factorisation of width 8",
        "kernel_ridge",
        "als",
        "als",
        "als",
        "user_knn",
        "ensemble",
        "student",
    ]
    assert [name for name, _ in report.weights] == ["kernel_ridge", "als", "als", "als", "user_knn"]
    assert max(weight for _, weight in report.weights) >= 1 and report.skipped == []
    assert report.rows[-1].bytes == 4 * 8 * 450 and report.epochs == 500
    assert all(row.seconds >= 0 for row in report.rows)
    assert report.seconds == pytest.approx(sum(row.seconds for row in report.rows))
    lines = str(report).splitlines()
    assert len(lines) == 10
    assert lines[0].split() == ["model", "recall@20", "seconds", "bytes", "weight"]
    weights = [line.split()[-1] for line in lines[3:8]]
    assert weights == [str(weight) for _, weight in report.weights]
    assert json.loads(report.to_json())["epochs"] == 500


@OF_FEW_EPOCHS
def test_the_ensemble_is_the_fusion_of_the_teachers(split) -> None:
    train, val, _ = split
    first, second = EASE(train), extract_knowledge(MF(train, dim=4), train)
    _, report = compress(
        train, val, dim=4, teachers=[first, second, "gfcf"], epochs=1, progress=False
    )
    assert report.names[2:] == ["EASE", "given lists", "gfcf", "ensemble", "student"]
    value = Validation(train, val, "recall@20").of_teacher
    assert report.value("EASE") == value(extract_knowledge(first, train))
    graphs = [extract_knowledge(first, train), second]
    assert report.value("ensemble") >= value(fuse(graphs, val_data=val))


@OF_FEW_EPOCHS
def test_same_seed_same_bits(split) -> None:
    tables = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(tables))
        student, _ = compress(*split[:2], dim=4, epochs=3, seed=seed, progress=False)
        tables.append(student.item_embedding.detach())
    assert torch.equal(tables[0], tables[1]) and not torch.equal(tables[0], tables[2])


@OF_FEW_EPOCHS
def test_other_students_and_metrics(split) -> None:
    student, report = compress(
        *split[:2],
        dim=4,
        model=LightGCN,
        teachers=["als"],
        metric="ndcg@10",
        epochs=2,
        progress=False,
    )
    assert isinstance(student, LightGCN) and report.metric == "ndcg@10"
    assert report.value("als") == report.value("ensemble")


@OF_FEW_EPOCHS
def test_a_budget_leaves_teachers_out(split, monkeypatch) -> None:
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr("pyg_kd.training.ensemble.time.monotonic", lambda: next(clock))
    _, report = compress(*split[:2], dim=4, budget=4, progress=False)
    assert report.skipped == ["als", "als", "user_knn"] and report.names[2:] == [
        "kernel_ridge",
        "als",
        "ensemble",
        "student",
    ]
    assert report.epochs == 5


def test_useless_teachers_are_told_of(split) -> None:
    train, val, _ = split
    torch.manual_seed(0)
    noise = extract_knowledge(MF(train, dim=4), train)
    with pytest.warns(UserWarning, match="no better than") as caught:
        compress(train, val, dim=4, teachers=[noise], epochs=1, progress=False)
    told = [str(w.message) for w in caught]
    assert any("no better than popularity on 'val_data': recall@20" in text for text in told)
    assert any("than factorisation of width 4" in text for text in told)
    assert all(w.filename == __file__ for w in caught)


def test_a_student_of_too_few_epochs_is_told_of(split) -> None:
    with pytest.warns(UserWarning, match="no better than") as caught:
        compress(*split[:2], dim=4, teachers=["als"], epochs=1, progress=False)
    (told,) = caught
    message = "the student is no better than factorisation of width 4 on 'val_data': recall@20 is"
    assert str(told.message).startswith(message) and told.filename == __file__
    assert str(told.message).endswith("Give it more 'epochs' than 1")


def test_bad_input(split) -> None:
    train, val, _ = split
    wrong = [
        (ValueError, "'dim' must be a positive integer .got 0", {"dim": 0}),
        (ValueError, "'epochs' must be a positive", {"epochs": 0}),
        (ValueError, "'budget' must be positive", {"budget": 0}),
        (ValueError, "'metric' must look like", {"metric": "auc"}),
        (ValueError, "'teachers' must be 'auto' or a list", {"teachers": []}),
        (ValueError, "'teachers' must be 'auto' or a list .got 'als'", {"teachers": "als"}),
        (ValueError, "'teachers' must be out of .*got 'bert'", {"teachers": ["bert"]}),
        (TypeError, "must be a name, a model or a graph .* .got int", {"teachers": [3]}),
        (ValueError, "ranks by inner products", {"model": CML, "teachers": ["als"]}),
    ]
    for error, message, options in wrong:
        with pytest.raises(error, match=message):
            compress(train, val, **{"dim": 4, "epochs": 1, "progress": False, **options})
    with pytest.raises(ValueError, match=r"'val_data' must be a graph with targets .* .got None"):
        compress(train, None, progress=False)


def test_report_without_rows() -> None:
    report = CompressionReport("recall@20")
    assert str(report).split() == ["model", "recall@20", "seconds", "bytes", "weight"]
    assert report.value("student") is None
