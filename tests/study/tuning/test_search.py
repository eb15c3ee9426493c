from __future__ import annotations

import math
import time

import pytest

from pyg_kd.study.tuning import Range, Tuning, search
from pyg_kd.study.tuning import search as search_function
from pyg_kd.study.tuning.figure import edge_warning
from pyg_kd.study.tuning.trials import COMPLETE, FAILED, PRUNED
from pyg_kd.training import History, TrainingDiverged

SPACE = {
    "lr": Range(0.01, 0.001, 0.1),
    "weight_decay": Range(0.0, 1e-7, 1e-2, zero=True),
}


def value_of(setting) -> float:
    """The best is lr=0.05 without weight decay."""
    return 1 - abs(math.log10(setting["lr"] / 0.05)) - 10 * setting["weight_decay"]


def objective(setting, report) -> float:
    return value_of(setting)


def found(objective=objective, **options) -> Tuning:
    options = {"metric": "recall@20", "minutes": 1, "progress": False, **options}
    return search(objective, SPACE, **options)


def test_the_first_trial_is_the_recipe() -> None:
    result = found(trials=1)
    assert result.trials[0].setting == {"lr": 0.01, "weight_decay": 0.0}
    assert result.best == result.default == result.trials[0]


def test_it_finds_what_is_better() -> None:
    result = found(trials=25)
    assert len(result.trials) == 25
    assert result.best.value == max(trial.value for trial in result.trials)
    assert result.best.value > result.default.value + 0.3
    for trial in result.trials:
        assert trial.value == pytest.approx(value_of(trial.setting))
        assert 0.001 <= trial.setting["lr"] <= 0.1
        assert 0 <= trial.setting["weight_decay"] <= 1e-2


def test_never_below_the_recipe() -> None:
    result = found(lambda setting, report: -abs(math.log(setting["lr"] / 0.01)), trials=8)
    assert result.best.number == 0 and result.best.value == 0.0


def test_a_seed_gives_the_same_trials() -> None:
    one, other = found(trials=8, seed=3), found(trials=8, seed=3)
    assert [t.setting for t in one.trials] == [t.setting for t in other.trials]
    assert [t.setting for t in found(trials=8, seed=4).trials] != [t.setting for t in one.trials]


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(tmp_path, stop) -> None:
    whole = found(trials=10)
    calls = []

    def interrupted(setting, report) -> float:
        calls.append(setting)
        if len(calls) == stop + 1:
            raise KeyboardInterrupt
        return value_of(setting)

    first = found(interrupted, trials=10, storage=tmp_path / "a.json")
    assert first.interrupted and len(first.trials) == stop
    second = found(trials=10, storage=tmp_path / "a.json")
    assert not second.interrupted
    assert [t.setting for t in second.trials] == [t.setting for t in whole.trials]
    assert [t.number for t in second.trials] == [*range(10)]


def test_a_killed_search_goes_on(tmp_path) -> None:
    class Killed(BaseException):
        pass

    def killed(setting, report) -> float:
        if setting != {"lr": 0.01, "weight_decay": 0.0}:
            raise Killed
        return value_of(setting)

    with pytest.raises(Killed):
        found(killed, trials=5, storage=tmp_path / "a.json")
    result = found(trials=5, storage=tmp_path / "a.json")
    assert [t.setting for t in result.trials] == [t.setting for t in found(trials=5).trials]


def test_interrupted_before_anything_was_found(tmp_path) -> None:
    def interrupted(setting, report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found(interrupted, storage=tmp_path / "a.json")
    assert found(trials=1, storage=tmp_path / "a.json").default is not None


def test_minutes_are_kept(monkeypatch, tmp_path) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def slow(setting, report) -> float:
        now[0] += 20
        return value_of(setting)

    # Three trials of 20 seconds fit into a minute, and no part of a fourth.
    assert len(found(slow, minutes=1.3).trials) == 3
    assert len(found(slow, minutes=0.1).trials) == 1  # the recipe, whatever it takes
    path = tmp_path / "a.json"
    assert len(found(slow, minutes=1, storage=path).trials) == 3
    assert len(found(slow, minutes=1, storage=path).trials) == 3
    assert len(found(slow, minutes=2, storage=path).trials) == 6


def test_trials_that_are_behind_are_ended() -> None:
    def curve(setting, report) -> float:
        for step in range(10):
            report(step, value_of(setting) * (step + 1) / 10)
        return value_of(setting)

    result = found(curve, trials=40, warmup=3)
    early = [trial for trial in result.trials if trial.state == PRUNED]
    assert early and not any(trial.number < 4 for trial in early)
    assert all(3 <= trial.curve[-1][0] < 9 for trial in early)
    assert result.best.state == COMPLETE and len(result.best.curve) == 10
    median = sorted(t.value for t in result.complete)[len(result.complete) // 2]
    assert all(value_of(trial.setting) <= median + 0.2 for trial in early)


def test_failed_trials() -> None:
    def diverges(setting, report) -> float:
        if setting["lr"] > 0.01:
            raise TrainingDiverged("the loss is not finite", History())
        return value_of(setting)

    result = found(diverges, trials=12)
    failed = [trial for trial in result.trials if trial.state == FAILED]
    assert failed and all(trial.value is None for trial in failed)
    assert len(result.trials) == 12
    assert result.best.setting["lr"] <= 0.01


def test_nothing_is_complete() -> None:
    def diverges(setting, report):
        raise TrainingDiverged("the loss is not finite", History())

    result = found(diverges, trials=2)
    assert result.edges == [] and result.default is None
    with pytest.raises(ValueError, match="no trial was trained to its end"):
        _ = result.best


def test_edges() -> None:
    up = found(lambda setting, report: setting["lr"] - setting["weight_decay"], trials=60)
    text = edge_warning("student", up)
    assert up.edges == ["lr"] or up.best.setting["lr"] < 0.0913
    # At the recipe's end of the weight decay, which is none, there is nothing to warn about.
    assert "weight_decay" not in up.edges
    if up.edges:
        assert text.startswith("student: the best lr=0.")
    inside = found(trials=25)
    assert inside.edges == [] and edge_warning("student", inside) is None


def test_several_searches_share_a_file(tmp_path) -> None:
    path = tmp_path / "a.json"
    found(trials=3, storage=path, name="student")
    assert len(found(trials=1, storage=path, name="alone").trials) == 1
    assert len(found(trials=3, storage=path, name="student").trials) == 3


def test_a_damaged_file(tmp_path) -> None:
    path = tmp_path / "a.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        found(storage=path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="holds no trials of a tuning"):
        found(storage=path)
    path.unlink()
    found(trials=1, storage=path)
    path.write_text(path.read_text().replace('"seconds"', '"hours"'))
    with pytest.raises(ValueError, match=r"is damaged: .* in the search 'student'"):
        found(storage=path)


def test_errors(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"'minutes' must be positive \(got 0\)"):
        found(minutes=0)
    with pytest.raises(ValueError, match="'trials' must be a positive integer"):
        found(trials=0)
    with pytest.raises(ValueError, match="'space' must hold a range"):
        search_function(objective, {}, metric="recall@20", minutes=1)
    found(trials=1, storage=tmp_path / "a.json")
    with pytest.raises(ValueError, match="holds a search 'student' of other ranges"):
        found(storage=tmp_path / "a.json", metric="ndcg@20")
    with pytest.raises(ValueError, match="holds a search 'student' of other ranges"):
        search_function(
            objective,
            {"lr": Range(0.02, 0.001, 0.1)},
            metric="recall@20",
            minutes=1,
            storage=tmp_path / "a.json",
        )
