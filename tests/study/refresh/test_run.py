from __future__ import annotations

import copy
import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.datasets import from_interactions
from pyg_kd.study.refresh import (
    DistilAgain,
    FineTune,
    FoldInOnly,
    NamedTeacher,
    NewTeacher,
    Recipe,
    RefreshReport,
    SoftLabelStudent,
    Task,
    harmonic_mean,
    refresh_section,
    run_refresh,
)
from pyg_kd.study.report import save_figures, to_html, to_markdown
from pyg_kd.transforms import TimeBlocks
from pyg_kd.typing import INTERACTS

POLICIES: list[Any] = ["never", "fold-in", FineTune(replay=0.5), "distil again", "new teacher"]
BLOCKS = TimeBlocks(increments=3, probe=0.15)
RECIPE = Recipe(NamedTeacher("als"), SoftLabelStudent(dim=4, epochs=3, tuning_epochs=2))


def _run(data: HeteroData, **options: Any) -> RefreshReport:
    options = {"blocks": BLOCKS, "recipe": RECIPE, "metric": "recall@5", **options}
    return run_refresh(data, options.pop("policies", POLICIES), progress=False, **options)


@pytest.fixture(scope="module")
def report(stream: HeteroData) -> RefreshReport:
    return _run(stream, seeds=(0, 1))


def _plain(report: RefreshReport) -> list[dict[str, Any]]:
    return [{**record, "cost": sorted(record["cost"])} for record in report.records]


def test_a_summary_is_made_of_the_records(report: RefreshReport) -> None:
    rows = {row.policy: row for row in report.summary()}
    assert list(rows) == [
        "never", "fold-in", "fine-tune, replay 0.5", "distil again", "new teacher"
    ]  # fmt: skip
    assert len(report.records) == 2 * (1 + 5 * 2)
    for policy, row in rows.items():
        mine = [r for r in report.records if r["policy"] == policy]
        assert {r["step"] for r in mine} == {1, 2} and len(mine) == 4
        new = [r["next"]["all"]["value"] for r in mine]
        average = [mean(r["held"]) for r in mine]
        assert row.new == pytest.approx(mean(new)) and row.average == pytest.approx(mean(average))
        both = [harmonic_mean(a, b) for a, b in zip(new, average, strict=True)]
        assert row.harmonic == pytest.approx(mean(both))
        assert row.seconds == pytest.approx(mean(sum(r["cost"].values()) for r in mine))
        assert row.gain == pytest.approx(row.new - rows["never"].new)
        lost = []
        for seed in (0, 1):
            by_step = {r["step"]: r["held"] for r in mine if r["seed"] == seed}
            (base,) = (r for r in report.records if (r["policy"], r["seed"]) == ("base", seed))
            first = max(base["held"][0], by_step[1][0]) - by_step[2][0]
            lost.append((first + by_step[1][1] - by_step[2][1]) / 2)
        assert row.forgetting == pytest.approx(mean(lost))
    assert rows["never"].interval is None and rows["never"].seconds == 0
    assert rows["never"].undominated
    low, high = rows["new teacher"].interval or (1, 0)
    assert low <= rows["new teacher"].gain <= high


def test_groups_count_every_user_once(report: RefreshReport) -> None:
    cells = [report.record("fold-in", step, seed)["next"] for step in (1, 2) for seed in (0, 1)]
    groups = report.groups("fold-in")
    total = sum(len(cell["user"]) for cell in cells)
    assert sum(count for name, (_, count) in groups.items() if "users" in name) == total
    values = [value for cell in cells for value in cell["value of users"]]
    pooled = [
        (value, count) for name, (value, count) in groups.items() if "users" in name and count
    ]
    assert sum(v * n for v, n in pooled if v is not None) / total == pytest.approx(mean(values))
    assert groups["users new"][0] is None or groups["users new"][1] > 0


def test_staleness_compares_with_a_fresh_model(report: RefreshReport) -> None:
    first, second = report.staleness()
    assert (first["age"], first["pairs"]) == (1, 4) and (second["age"], second["pairs"]) == (2, 2)
    lost = []
    for seed in (0, 1):
        told = [report.record("new teacher", step, seed) for step in range(3)]
        lost.append(told[2]["student ahead"][0] - told[0]["student ahead"][2])
        for step in range(3):
            fresh = told[step]["student ahead"][0]
            assert fresh == pytest.approx(told[step]["next"]["all"]["value"])
    assert second["student"] == pytest.approx(mean(lost))
    never = report.record("never", 2, 0)["next"]["all"]["value"]
    assert report.record("never", 0, 0)["student ahead"][2] == pytest.approx(never)


def test_nothing_served_knows_the_future(stream: HeteroData) -> None:
    """With another future, what is served until then is the same."""
    other = copy.deepcopy(stream)
    step = BLOCKS(stream)[1]
    late = (stream[INTERACTS].time >= step.boundary).nonzero().view(-1)
    keep = late[torch.randperm(len(late), generator=torch.Generator().manual_seed(0))]
    other[INTERACTS].time[late] = stream[INTERACTS].time[keep]  # the same blocks, another order
    steps = [BLOCKS(data)[:2] for data in (stream, other)]
    targets = [set(map(tuple, s[1].test[INTERACTS].edge_label_index.t().tolist())) for s in steps]
    assert targets[0] != targets[1]
    for policy in (FoldInOnly(), FineTune(), DistilAgain(), NewTeacher()):
        found = []
        for own in steps:
            base = Task(own[:1], RECIPE, 0).from_scratch()
            found.append(policy(base, Task(own, RECIPE, 0)).student)
        assert torch.equal(found[0].user, found[1].user)
        assert torch.equal(found[0].item, found[1].item)


def test_seeds_decide(stream: HeteroData, report: RefreshReport) -> None:
    again = _run(stream, policies=["never"])
    mine = [r for r in report.records if r["seed"] == 0 and r["policy"] in ("base", "never")]
    for one, other in zip(_plain(again), mine, strict=True):
        assert one == {**other, "cost": sorted(other["cost"])}
    held = [report.record("never", 1, seed)["held"] for seed in (0, 1)]
    assert held[0] != held[1]


def test_a_run_that_was_stopped_goes_on(
    stream: HeteroData, report: RefreshReport, tmp_path: Path
) -> None:
    count = 0

    class Stopping(NamedTeacher):
        def __call__(self, graph: HeteroData, seed: int) -> Any:
            nonlocal count
            count += 1
            if count == 3:
                raise KeyboardInterrupt
            return super().__call__(graph, seed)

    # It prints as the other one does, so that the folder takes both for the same.
    Stopping.__qualname__ = "NamedTeacher"
    recipe = Recipe(Stopping("als"), RECIPE.student)
    with pytest.raises(KeyboardInterrupt):
        _run(stream, seeds=(0, 1), folder=tmp_path, recipe=recipe)
    kept = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.json"))
    assert Path("seed-0/new-teacher/step-1.json") in kept
    assert Path("seed-0/new-teacher/step-2.json") not in kept
    found = _run(stream, seeds=(0, 1), folder=tmp_path)
    assert _plain(found) == _plain(report)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("step-*")}
    assert _plain(_run(stream, seeds=(0, 1), folder=tmp_path)) == _plain(report)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("step-*")} == before
    with pytest.raises(ValueError, match="'folder' holds results of other data, blocks, recipe"):
        _run(stream, folder=tmp_path, metric="recall@6")


def test_lists_of_a_teacher_are_kept_too(stream: HeteroData, tmp_path: Path) -> None:
    recipe = Recipe(NamedTeacher("ease"), RECIPE.student)
    options = {"policies": ["distil again"], "recipe": recipe, "folder": tmp_path}
    first = _run(stream, **options)
    (tmp_path / "seed-0" / "distil-again" / "step-2.json").unlink()
    assert _plain(_run(stream, **options)) == _plain(first)


def test_a_report_is_shown(report: RefreshReport, tmp_path: Path) -> None:
    lines = str(report).splitlines()
    assert lines[0].split() == [
        "policy", "new", "recall@5", "average", "harmonic", "forgotten", "CPU", "s"
    ]  # fmt: skip
    assert len(lines) == 6
    told = json.loads(report.to_json())
    assert [row["policy"] for row in told["summary"]] == report.policies
    assert "user" not in told["records"][0]["next"] and len(told["counts"]) == 3
    section = refresh_section(report, "Refresh of a stream")
    assert len(section.tables) == 4 and len(section.figures) == 2
    assert "new teacher" in to_markdown(section) and "new teacher" in to_html(section)
    pytest.importorskip("matplotlib")
    save_figures(section, tmp_path)
    assert len([*tmp_path.iterdir()]) >= 2


@pytest.mark.parametrize("teacher", ["als", "ease"])
def test_users_who_come_once(teacher: str) -> None:
    """As on MovieLens: nearly all interactions of a block are of users who had none before."""
    user = torch.arange(80).repeat_interleave(10)
    generator = torch.Generator().manual_seed(0)
    item = torch.stack([torch.randperm(40, generator=generator)[:10] for _ in range(80)])
    data = from_interactions([user.tolist(), item.flatten().tolist()], time=list(range(800)))
    recipe = Recipe(NamedTeacher(teacher), SoftLabelStudent(dim=4, epochs=2, tuning_epochs=2))
    found = _run(data, recipe=recipe)
    assert all(count["targets of new users"] > 0.9 * count["targets"] for count in found.counts)
    for record in found.records:
        told = record["next"]
        assert told["users new"]["users"] >= told["all"]["users"] - 1
    # They get what is popular by now, whatever else is refreshed.
    told = [found.record(policy, 2, 0)["next"]["users new"]["value"] for policy in found.policies]
    assert len(set(told[1:])) == 1


def test_a_report_from_its_json(report: RefreshReport) -> None:
    again = RefreshReport.from_dict(json.loads(report.to_json()))
    assert again.summary() == report.summary()
    assert str(again) == str(report) and again.staleness() == report.staleness()
    assert again.to_json() == report.to_json()
    assert to_markdown(refresh_section(again)) == to_markdown(refresh_section(report))


def test_without_anything_held_out(stream: HeteroData) -> None:
    found = _run(stream, policies=["never", "fold-in"], blocks=TimeBlocks(increments=2))
    (row, _) = found.summary()
    assert row.average is None and row.harmonic is None and row.forgetting is None
    assert "-" in str(found) and found.staleness() == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"policies": "never"}, TypeError, "'policies' must be a list of policies"),
        ({"policies": ["nothing"]}, ValueError, "'policies' must be one of"),
        ({"policies": [3]}, TypeError, r"'policies' must be names or policies \(got 3\)"),
        ({"policies": ["never", "never"]}, ValueError, "'policies' must have different names"),
        ({"seeds": []}, TypeError, r"'seeds' must be a list of integers \(got \[\]\)"),
        ({"seeds": [0, -1]}, ValueError, r"'seeds\[1\]' must be an integer of 0 or more"),
        ({"seeds": [0, 0]}, ValueError, r"'seeds' must be different \(got \[0, 0\]\)"),
        ({"blocks": TimeBlocks(increments=1)}, ValueError, "'blocks' must have two increments"),
        ({"metric": "recall"}, ValueError, "'metric' must look like 'recall@20'"),
    ],
)
def test_options_are_checked(
    stream: HeteroData, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        _run(stream, **options)
