from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from pyg_kd.evaluation import Groups, PerUser
from pyg_kd.study import Record, Results
from pyg_kd.study.insight import costs_section, study_slices
from pyg_kd.study.report import to_markdown

ROWS = {"teacher": 0.3, "student alone": 0.0, "slow": 0.2, "quick": 0.1}
SEEDS = (0, 1)


def users(method: str, seed: int) -> PerUser:
    rng = np.random.default_rng([seed, list(ROWS).index(method)])
    values = torch.from_numpy(0.2 + ROWS[method] + 0.05 * rng.standard_normal(40))
    return PerUser({"recall@20": float(values.mean())}, {"recall@20": values}, torch.arange(40) * 2)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    about = {
        "format": "pyg_kd.study.1", "name": "demo", "baseline": "student alone",
        "datasets": ["ml"], "worlds": ["mf"], "methods": list(ROWS), "config": {},
    }  # fmt: skip
    (tmp_path / "study.json").write_text(json.dumps(about))
    for place, method in enumerate(ROWS):
        for seed in SEEDS:
            role = "teacher" if method == "teacher" else "student"
            key = f"{method}-{seed}".replace(" ", "_")
            made = Record(
                key, "demo", "ml", "mf", method, seed, role,
                cpu_seconds=10.0 * (1 + place % 3) + seed, peak_bytes=2_000_000, size_bytes=500_000,
            )  # fmt: skip
            made.tested(tmp_path / "runs" / key, users(method, seed))
    return Results(tmp_path)


def test_slices_of_a_study_are_the_means_of_its_seeds(results):
    of = torch.full((79,), -1)
    of[::2] = torch.arange(40) % 2
    groups = Groups("user", ("even", "odd"), of)
    table = study_slices(results, "ml", "mf", "slow", groups, metric="recall@20")
    for g, name in enumerate(groups.names):
        own, other = (
            np.mean([users(row, s).values["recall@20"].numpy()[g::2] for s in SEEDS], axis=0)
            for row in ("slow", "teacher")
        )
        assert table[name].users == 20
        assert table[name].value == pytest.approx(own.mean())
        assert table[name].retention == pytest.approx(own.mean() / other.mean())
    with pytest.raises(KeyError, match="no tested run of"):
        study_slices(results, "ml", "mf", "other", groups, metric="recall@20")


def test_costs_stand_beside_gains(results):
    section = costs_section(results, "ml", "mf", "recall@20")
    (table,) = section.tables
    assert [row[0] for row in table.rows] == ["slow", "quick", "student alone"]
    gains = [
        np.mean([users(row, s).values["recall@20"].numpy() for s in SEEDS], axis=0)
        for row in ("slow", "student alone")
    ]
    test = stats.ttest_rel(*gains).confidence_interval(0.95)
    assert table.rows[0][1] == pytest.approx((gains[0] - gains[1]).mean())
    assert table.rows[0][2] == f"{test.low:+.4f} to {test.high:+.4f}"
    assert table.rows[0][3:] == [30.5, "1.5x", 2, 0.5]
    assert "10 CPU seconds" in to_markdown(section)  # the teacher's
