from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.study.optuna_search import OptunaSearch
from pyg_kd.study.search import GridSearch, Search, best_of
from pyg_kd.study.settings import Setting, applied, flat, settings_of


def run(search: Search, value: object) -> list[tuple[Setting, float | None]]:
    """Tell a search what a function reaches, until it is over."""
    told: list[tuple[Setting, float | None]] = []
    while proposed := search.propose(told):
        told += [(setting, value(setting)) for setting in proposed]  # type: ignore[operator]
    return told


def test_a_grid_grows_towards_its_best_value() -> None:
    grid = [{"weight": w} for w in (0.01, 0.1, 1.0)]
    told = run(GridSearch(grid, 5), lambda s: -abs(s["weight"] - 100))
    assert [s["weight"] for s, _ in told] == [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]
    assert GridSearch(grid, 5).edges(told) == []
    down = run(GridSearch(grid, 5), lambda s: -s["weight"])
    assert [s["weight"] for s, _ in down[3:]] == [1e-3, 1e-4, 1e-5, 1e-6, 1e-7]


def test_a_best_value_that_stays_at_the_end_is_flagged() -> None:
    grid = [{"weight": w} for w in (0.01, 0.1, 1.0)]
    search = GridSearch(grid, 2)
    told = run(search, lambda s: s["weight"])
    assert len(told) == 5 and search.edges(told) == ["weight"]
    assert GridSearch(grid, 0).edges(run(GridSearch(grid, 0), lambda s: s["weight"])) == ["weight"]


def test_zero_is_a_natural_end_and_words_have_none() -> None:
    decay = GridSearch([{"decay": d} for d in (0.0, 1e-6, 1e-5)], 3)
    told = run(decay, lambda s: -s["decay"])
    assert len(told) == 3 and decay.edges(told) == []
    words = GridSearch([{"mode": "full"}, {"mode": "hierarchical"}], 3)
    told = run(words, lambda s: len(s["mode"]))
    assert len(told) == 2 and words.edges(told) == []


def test_integers_stay_integers_and_refused_values_are_not_tried() -> None:
    grid = [{"k": k} for k in (10, 20, 40)]
    told = run(GridSearch(grid, 3, lambda s: s["k"] <= 80), lambda s: s["k"])
    assert [s["k"] for s, _ in told] == [10, 20, 40, 80]
    assert all(isinstance(s["k"], int) for s, _ in told)
    assert GridSearch(grid, 3).edges(told) == ["k"]


def test_both_ends_of_two_axes_are_followed() -> None:
    grid = settings_of({"a": [1.0, 2.0], "b": [1.0, 10.0]}, "row")
    told = run(GridSearch(grid, 2), lambda s: s["a"] - s["b"])
    assert [s for s, _ in told[4:]] == [{"a": 4.0, "b": 1.0}, {"a": 2.0, "b": 0.1}]


def test_failed_settings_are_never_the_best() -> None:
    search = GridSearch([{"w": 1.0}, {"w": 2.0}], 0)
    told = run(search, lambda s: None if s["w"] == 2.0 else 0.1)
    assert best_of(told) == {"w": 1.0}
    assert best_of([({"w": 1.0}, None)]) is None and search.edges([({"w": 1.0}, None)]) == []


@given(
    st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=5, unique=True),
    st.integers(0, 6),
    st.floats(1e-8, 1e8),
)
def test_no_more_settings_than_the_budget_allows(
    values: list[float], extensions: int, peak: float
) -> None:
    grid = [{"w": value} for value in values]
    search = GridSearch(grid, extensions)
    told = run(search, lambda s: -abs(s["w"] - peak))
    tried = [s["w"] for s, _ in told]
    assert tried[: len(values)] == values and len(tried) == len(set(tried))
    assert len(tried) <= len(values) + extensions
    best = best_of(told)
    assert best is not None
    inside = min(tried) < best["w"] < max(tried)
    assert search.edges(told) == ([] if inside else ["w"])


def test_settings_are_all_combinations() -> None:
    found = settings_of({"weight": [1, 2], "trainer": {"lr": [3, 4], "loss": ["bpr"]}}, "row")
    expected = [
        {"weight": w, "trainer.lr": lr, "trainer.loss": "bpr"}
        for w, lr in itertools.product((1, 2), (3, 4))
    ]
    assert found == expected
    assert settings_of([{"trainer": {"lr": 1}}, {"weight": 2}], "row") == [
        {"trainer.lr": 1},
        {"weight": 2},
    ]
    assert settings_of({}, "row") == [{}] and settings_of([], "row") == [{}]
    with pytest.raises(ValueError, match=r"row.search.weight must be a list of values \(got 3\)"):
        settings_of({"weight": 3}, "row")


def test_a_setting_changes_a_copy() -> None:
    tree = {
        "components": [{"method": "DE", "weight": 1.0, "options": {}}],
        "trainer": {"loss": {"BPR": {}}},
    }
    setting = {"weight": 2.0, "options.num_experts": 5, "trainer.lr": 0.1, "dim": 3}
    found = applied(tree, setting)
    assert found["components"] == [{"method": "DE", "weight": 2.0, "options": {"num_experts": 5}}]
    assert found["trainer"] == {"loss": {"BPR": {}}, "lr": 0.1} and found["dim"] == 3
    assert tree["components"] == [{"method": "DE", "weight": 1.0, "options": {}}]
    two = {"components": [{"weight": 1.0, "options": {}}] * 2}
    assert applied(two, {"components.1.weight": 5.0})["components"][1]["weight"] == 5.0
    for name, message in (
        ("weight", "'weight' needs a row of one method"),
        ("components.2.weight", "leads nowhere: there are 2 components"),
        ("components.0.weight.x", "leads nowhere"),
    ):
        with pytest.raises(ValueError, match=message):
            applied(two, {name: 1.0})


def test_flat_keeps_ranges_whole() -> None:
    space = {"trainer": {"lr": {"low": 1e-4, "high": 1.0, "log": True}}, "options": {}}
    assert flat(space) == {"trainer.lr": space["trainer"]["lr"], "options": {}}


SPACE = {"lr": {"low": 1e-4, "high": 1.0, "log": True}, "k": {"low": 1, "high": 9}, "m": ["a", "b"]}


def search(folder: Path, trials: int = 7, name: str = "row") -> OptunaSearch:
    return OptunaSearch(SPACE, trials, folder / "search.db", name, seed=3)


def reached(setting: Setting) -> float:
    return float(-((setting["lr"] - 0.1) ** 2) - abs(setting["k"] - 4) + (setting["m"] == "a"))


def test_optuna_goes_on_as_if_it_had_not_been_interrupted(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = run(search(tmp_path / "whole"), reached)
    assert len(whole) == 7
    assert all(1e-4 <= s["lr"] <= 1 and 1 <= s["k"] <= 9 and s["m"] in "ab" for s, _ in whole)
    told = whole[:5]
    search(tmp_path).propose(told)  # asked for, and never told: its process was killed
    again = search(tmp_path)
    while proposed := again.propose(told):
        told = [*told, (proposed[0], reached(proposed[0]))]
    assert told == whole


def test_optuna_flags_the_end_of_a_range(tmp_path: Path) -> None:
    one = search(tmp_path)
    assert one.edges([({"lr": 1.0, "k": 5, "m": "a"}, 1.0)]) == ["lr"]
    assert one.edges([({"lr": 0.01, "k": 9, "m": "a"}, 1.0)]) == ["k"]
    assert one.edges([({"lr": 0.01, "k": 5, "m": "b"}, 1.0)]) == []
    assert one.edges([({"lr": 1.0, "k": 5, "m": "a"}, None)]) == []


def test_a_wrong_range_is_refused(tmp_path: Path) -> None:
    wrong = {"lr": {"low": 2.0, "high": 1.0}}
    with pytest.raises(ValueError, match=r"search.lr: "):
        OptunaSearch(wrong, 3, tmp_path / "search.db", "row", 0)
