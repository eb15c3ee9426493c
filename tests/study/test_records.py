from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pyg_kd.evaluation import PerUser
from pyg_kd.study import Record, Results
from pyg_kd.study.records import RECORD, USERS, digest

METRICS = ("recall@5", "ndcg@5")


def users(seed: int, num_users: int = 7) -> PerUser:
    generator = torch.Generator().manual_seed(seed)
    values = {
        name: torch.rand(num_users, dtype=torch.double, generator=generator) for name in METRICS
    }
    user = 3 * torch.arange(num_users)
    return PerUser({name: float(v.mean()) for name, v in values.items()}, values, user)


def record(method: str, seed: int, world: str = "mf", **values: object) -> Record:
    recipe = {"method": method, "seed": seed, "world": world, "lr": 0.1}
    key = digest(recipe)
    role = "teacher" if method == "teacher" else "student"
    made = Record(key, "demo", "ml", world, method, seed, role, recipe=recipe)
    return replace(made, **values)  # type: ignore[arg-type]


def study(folder: Path, *records: Record) -> Path:
    """A study's folder, as a study writes it."""
    about = {
        "format": "pyg_kd.study.1",
        "name": "demo",
        "baseline": "student alone",
        "datasets": ["ml"],
        "worlds": ["mf", "lightgcn"],
        "methods": ["teacher", "student alone", "DE"],
        "config": {},
    }
    (folder / "study.json").write_text(json.dumps(about))
    for number, made in enumerate(records):
        made.tested(folder / "runs" / made.key, users(number), {"trials": 2})
    return folder


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    made = record(
        "DE",
        3,
        setting={"weight": 0.01},
        hardware={"cores": 2, "gpu": None},
        curve=[[0, 0.1], [1, 0.2]],
        best_epoch=1,
        validation=1,
        search={"trials": 3, "edges": ["weight"]},
    )
    made.write(tmp_path)
    assert Record.read(tmp_path) == made
    assert Record.read(tmp_path).row == ("ml", "mf", "DE", 3)


def test_values_of_users_come_back_bit_for_bit(tmp_path: Path) -> None:
    found = users(0)
    made = record("DE", 0).tested(tmp_path, found)
    again = Record.read(tmp_path)
    assert again == made and again.test == found.mean
    read = again.users(tmp_path)
    assert torch.equal(read.user, found.user)
    for name in METRICS:
        assert read.values[name].dtype == torch.double
        assert torch.equal(read.values[name], found.values[name])


def test_results_are_in_the_order_of_the_study(tmp_path: Path) -> None:
    rows = [(m, s) for s in (1, 0) for m in ("DE", "teacher", "student alone")]
    trial = record("DE", 0, setting={"weight": 9.0}, recipe={"weight": 9.0}, key="f" * 16)
    results = Results(study(tmp_path, *[record(m, s) for m, s in rows]))
    trial.write(tmp_path / "runs" / trial.key)
    results = Results(tmp_path)
    assert len(results) == 7 and len(results.finalists()) == 6
    assert [r.row[2:] for r in results.finalists()] == [
        (m, s) for m in ("teacher", "student alone", "DE") for s in (0, 1)
    ]
    assert results.methods == ["teacher", "student alone", "DE"]
    assert (results.datasets, results.worlds, results.seeds) == (["ml"], ["mf"], [0, 1])
    assert results.metrics == list(METRICS) and results.baseline == "student alone"
    assert [r.key for r in results.select(method="DE", seed=0)].count(trial.key) == 1
    values = results.values("ml", "mf", "ndcg@5")
    for number, (method, seed) in enumerate(rows):
        assert torch.equal(values[method][seed], users(number).values["ndcg@5"])
        assert torch.equal(results.users("ml", "mf", method, seed).user, users(0).user)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    results = Results(study(tmp_path, record("DE", 0)))
    with pytest.raises(KeyError, match="0 tested runs of"):
        results.record("ml", "mf", "DE", 1)
    with pytest.raises(KeyError, match="no run has the metric 'mrr@5'"):
        results.values("ml", "mf", "mrr@5")
    untested = record("DE", 4)
    with pytest.raises(ValueError, match="has no test metrics"):
        untested.users(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("seed"), "has no field 'seed'"),
        (lambda c: c.update(colour="red"), "has a foreign field 'colour'"),
        (lambda c: c.update(seed="0"), "'seed' is '0'"),
        (lambda c: c.update(seed=True), "'seed' is True"),
        (lambda c: c.update(validation="high"), "'validation' is 'high'"),
        (lambda c: c.update(test=[1]), r"'test' is \[1\]"),
        (lambda c: c.update(format="other"), "is not a record of a study"),
    ],
)
def test_a_changed_record_is_refused(tmp_path: Path, change: object, message: str) -> None:
    made = record("DE", 0)
    path = study(tmp_path, made) / "runs" / made.key / RECORD
    content = json.loads(path.read_text())
    change(content)  # type: ignore[operator]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        Results(tmp_path)


def test_a_truncated_record_and_changed_values_are_refused(tmp_path: Path) -> None:
    made = record("DE", 0)
    folder = study(tmp_path, made) / "runs" / made.key
    results = Results(tmp_path)
    values = (folder / USERS).read_bytes()
    (folder / USERS).write_bytes(values[:-1] + bytes([values[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"users.parquet' is damaged"):
        results.users("ml", "mf", "DE", 0)
    (folder / USERS).unlink()
    with pytest.raises(ValueError, match=r"users.parquet' is missing"):
        results.users("ml", "mf", "DE", 0)
    (folder / RECORD).write_text((folder / RECORD).read_text()[:-20])
    with pytest.raises(ValueError, match=r"record.json' is damaged"):
        Results(tmp_path)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no study in"):
        Results(tmp_path / "none")
    with pytest.raises(ValueError, match=r"is not a study: it has no study.json"):
        Results(tmp_path)
    (tmp_path / "study.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="is not of a study of format"):
        Results(tmp_path)
