"""What the benchmark of refresh policies chooses and says of its data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyg_kd.datasets import SyntheticStream, from_interactions

ROOT = Path(__file__).parents[2]


@pytest.fixture
def refresh(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import refresh

    return refresh


def test_how_long_users_stay(refresh):
    day = 86_400
    data = from_interactions(
        [[0, 0, 1, 1, 2, 3, 3], [0, 1, 0, 1, 0, 0, 1]],
        time=[0, day - 1, 5, 5 + 3 * day, 9, 0, 100 * day],
    )
    found = refresh.spans(data)
    assert found["an hour"] == 1 / 4  # one interaction alone
    assert found["a day"] == 2 / 4 and found["a week"] == 3 / 4 and found["30 days"] == 3 / 4
    assert found["days of all"] == 100


def test_the_best_on_validation_targets_is_chosen(refresh, tmp_path):
    tried = {
        "teacher": {"0": 0.1, "1": 0.3, "2": 0.2},
        "tuning": {"3, 0.003, 0.0": 0.2, "10, 0.01, 0.5": 0.1},
        "own weight": {"0.25": 0.2, "1.0": 0.3},
    }
    (tmp_path / "choice.json").write_text(json.dumps(tried))
    recipe, again, found = refresh.chosen(None, tmp_path)
    assert recipe.teacher == refresh.NamedTeacher("als", 1)
    assert recipe.student == refresh.SoftLabelStudent(
        epochs=80, tuning_epochs=3, tuning_lr=0.003, tuning_own_weight=0.0
    )
    assert again.own_weight == 1.0 and again.epochs == 80
    assert found["at the edge"] == ["tuning_epochs"]


@pytest.mark.slow
def test_what_is_tried_is_measured(refresh, monkeypatch):
    monkeypatch.setattr(refresh, "EPOCHS", 2)
    grid = {"tuning_epochs": (1,), "tuning_lr": (0.01,), "tuning_own_weight": (0.0, 0.5, 2.0)}
    monkeypatch.setattr(refresh, "GRID", grid)
    monkeypatch.setattr(refresh, "OWN", (1.0,))
    data = SyntheticStream(num_users=120, num_items=60, num_edges=1_500)[0]
    tried = refresh._tried(data)
    assert set(tried["teacher"]) == {"0", "1", "2"} and len(tried["tuning"]) == 3
    assert all(0 < value < 1 for part in tried.values() for value in part.values())


def test_the_page_is_drawn_from_what_was_kept(refresh):
    import render_refresh

    data = SyntheticStream(num_users=60, num_items=40, num_edges=700)[0]
    recipe = refresh.Recipe(refresh.NamedTeacher("ease"), refresh.SoftLabelStudent(4, epochs=1))
    report = refresh.run_refresh(
        data, ["never", "fold-in"], blocks=refresh.BLOCKS, recipe=recipe, progress=False
    )
    found = json.loads(report.to_json()) | {
        "choice": {
            "tuning": {"5, 0.01, 0.5": 0.2, "20, 0.01, 0.5": 0.3},
            "own weight": {"2.0": 0.1, "0.5": 0.0},
            "at the edge": ["tuning_epochs"],
        },
        "seeds": [0],
        "spans": {"a day": 0.66, "30 days": 0.9, "days of all": 214.0},
        "machine": refresh.machine(),
    }
    page = render_refresh.section({"data": {"drifting": found, "movielens-100k": found}})
    assert [part.title for part in page.parts] == ["MovieLens-100K", "A stream whose tastes drift"]
    told, other = (part.text for part in page.parts)
    new, users = (
        report.groups("never")["users new"][1],
        sum(count for name, (_, count) in report.groups("never").items() if "users" in name),
    )
    assert "66% of its users rate within a day" in told and f"{new / users:.0%} are new" in told
    assert "66%" not in other and "20 epochs from a learning rate of 0.01" in other
    assert "at the edge of what was tried: `tuning_epochs`" in other
    names = [figure.name for figure in page.every_figure()]
    assert len(set(names)) == 4 and all(name.startswith("refresh-") for name in names)
    assert page.parts[0].tables[0].rows[1][0] == "fold-in"
