"""The report of a study: its numbers, its sentences and its files."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from statistics import mean, median, stdev

import numpy as np
import pytest
from scipy import stats

from pyg_kd.study.report import Section, study_section, summary, write_report
from pyg_kd.study.report.findings import findings
from pyg_kd.study.report.plots import front
from pyg_kd.study.report.tables import accuracy, costs, differences
from tests.study.report.example_study import EFFECTS, write_study
from tests.study.report.page_tree import Tree

pytest.importorskip("pyarrow")
METRIC = "ndcg@20"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"), note="Written by hand.")


@pytest.fixture(scope="module")
def found(results):
    return summary(results, num_replicates=999, progress=False)


def table(results, method: str, metric: str = METRIC) -> np.ndarray:
    """Values of every seed and user."""
    runs = results.values("movielens", "mf", metric)[method]
    return np.stack([runs[seed].numpy() for seed in sorted(runs)])


def test_means_deviations_and_seeds(results, found) -> None:
    row = found["worlds"][0]["rows"]["DE"]["test"][METRIC]
    means = table(results, "DE").mean(1)
    assert row["mean"] == pytest.approx(means.mean())
    assert row["deviation"] == pytest.approx(stdev(means))
    assert list(row["seeds"].values()) == pytest.approx(list(means))
    assert row["interval"][0] < row["mean"] < row["interval"][1]
    assert found["worlds"][0]["users"] == 300 and found["metrics"] == ["ndcg@20", "recall@20"]


def test_tests_are_those_of_scipy(results, found) -> None:
    alone, de = (table(results, name) for name in ("student alone", "DE"))
    test = found["worlds"][0]["rows"]["DE"]["against"]["student alone"][METRIC]
    assert test["difference"] == pytest.approx((de - alone).mean())
    over_users = stats.ttest_rel(de.mean(0), alone.mean(0))
    assert test["users"]["p"] == pytest.approx(over_users.pvalue)
    assert test["users"]["interval"] == pytest.approx(over_users.confidence_interval(0.95))
    assert test["seeds"]["p"] == pytest.approx(stats.ttest_rel(de.mean(1), alone.mean(1)).pvalue)
    assert test["both"]["interval"][0] < test["difference"] < test["both"]["interval"][1]
    # The one teacher stands beside the students of all seeds.
    teacher = table(results, "teacher")
    assert teacher.shape == (1, 300)
    against = found["worlds"][0]["rows"]["DE"]["against"]["teacher"][METRIC]
    assert against["difference"] == pytest.approx((de - teacher).mean())
    assert against["seeds in common"] == 5
    gap = found["worlds"][0]["rows"]["DE"]["gap closed"][METRIC]
    expected = (de.mean() - alone.mean()) / (teacher.mean() - alone.mean())
    assert gap["value"] == pytest.approx(expected)
    assert gap["interval"][0] < expected < gap["interval"][1]
    assert found["worlds"][0]["rows"]["teacher"]["against"] == {}


def test_costs_are_medians(results, found) -> None:
    runs = results.finalists("movielens", "mf", "DE")
    row = found["worlds"][0]["rows"]["DE"]
    assert row["CPU seconds"] == median(r.cpu_seconds for r in runs)
    assert row["peak bytes"] == max(r.peak_bytes for r in runs)
    assert row["commands"] == {str(r.seed): r.command for r in runs}
    assert row["measures"]["latency ms"] == mean(r.measures["latency ms"] for r in runs)


def test_a_summary_is_json_and_draws_the_same_report(found, tmp_path) -> None:
    found = found | {"worlds": found["worlds"][:1]}
    again = json.loads(json.dumps(found, allow_nan=False))
    first = write_report(found, tmp_path / "a")
    second = write_report(again, tmp_path / "b")
    for name in ("report.md", "report.html", "summary.json"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()
    pictures = sorted(p.name for p in (tmp_path / "a" / "figures").iterdir())
    linked = set(re.findall(r"\(figures/([^)]+)\)", first.read_text()))
    assert set(pictures) == linked and len(pictures) == 2 and second.parent == tmp_path / "b"


@pytest.fixture(scope="module")
def page(found, tmp_path_factory) -> str:
    extra = Section("Slices", "Something *else*.")
    path = write_report(found, tmp_path_factory.mktemp("page"), [extra])
    return (path.parent / "report.html").read_text()


def test_the_page_needs_nothing_else(page) -> None:
    tree = Tree(page.replace("<!DOCTYPE html>", ""))
    tags = {tag for tag, _ in tree.found}
    assert not tags & {"script", "link", "img", "iframe"}
    outer = [
        value
        for tag, attrs in tree.found
        for name, value in attrs.items()
        if name in ("src", "href", "xlink:href") and not str(value).startswith("#")
    ]
    assert outer == [] and "@import" not in page and "url(http" not in page
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page


def test_the_page_can_be_read_out_and_reached(page) -> None:
    tree = Tree(page.replace("<!DOCTYPE html>", ""))
    ids = [attrs["id"] for _, attrs in tree.found if attrs.get("id")]
    assert len(ids) == len(set(ids))
    targets = [a["href"][1:] for tag, a in tree.found if tag == "a" and a.get("href")]
    assert len(targets) >= 6 and set(targets) <= set(ids)
    titled = {a["aria-labelledby"] for tag, a in tree.found if tag == "svg"}
    assert len(titled) == 4 and titled <= set(ids)
    levels = [int(tag[1]) for tag, _ in tree.found if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert all(a.get("scope") for tag, a in tree.found if tag == "th")
    assert "Slices" in tree.text("h2")
    labelled = [a for _, a in tree.found if a.get("role") == "region"]
    assert labelled and all(a["tabindex"] == "0" and a["aria-label"] for a in labelled)


def contrast(one: str, other: str) -> float:
    """The ratio of two colours, by the formula of WCAG 2."""

    def light(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast(page) -> None:
    from pyg_kd.study.report.drawing import COLORS

    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", part))
        for part in page.split("<style>")[1].split("* {")[0].split("@media")
    )
    for mode in (light, dark):
        for ground in ("page", "band"):
            for text in ("ink", "soft", "link"):
                assert contrast(mode[text], mode[ground]) >= 4.5, (text, ground)
        for color in COLORS:  # marks and lines
            assert contrast(color, mode["page"]) >= 3, color


def test_sentences(found) -> None:
    said = findings(found["worlds"][0], "student alone", METRIC)
    text = " ".join(said)
    assert said[0].startswith("The best row is **SoftLabel, whole catalogue**, with NDCG@20 0.1")
    assert "significant, p" in said[0] and "of the gap to the teacher (interval 1" in said[0]
    assert "significantly above the second best, HTD + RRD" in said[1]
    assert "significantly above student alone" in said[2]
    assert "Significantly above it: *SoftLabel, whole catalogue*." in said[2]
    assert "Not significantly different from student alone: *RRD*." in said
    assert "Significantly below student alone: *popularity in place of the teacher*." in said
    assert "edge of what was searched for *RRD*" in text and "seeds, how much" not in text


def test_one_seed_and_no_gap(tmp_path) -> None:
    effects = {"teacher": -0.03, "student alone": 0.0, "DE": 0.0}
    study = write_study(tmp_path, seeds=(0,), worlds=("mf",), effects=effects)
    found = summary(study, [METRIC], num_replicates=99, progress=False)
    (world,) = found["worlds"]
    assert world["rows"]["DE"]["gap closed"] == {}
    assert "both" not in world["rows"]["DE"]["against"]["student alone"][METRIC]
    text = " ".join(findings(world, "student alone", METRIC))
    assert "there is no gap to close" in text and "Rows of one seed" in text
    beside = differences(world, METRIC, "student alone", gaps=True)
    assert beside.header == ["Row", "Difference", "95 % interval", "p, users"]
    assert write_report(found, tmp_path / "report").exists()


def test_what_a_study_says_of_itself(tmp_path) -> None:
    study = write_study(
        tmp_path,
        seeds=(0, 1),
        worlds=("mf",),
        num_users=40,
        note="A note.",
        against=["student alone", "DE"],
        published={"mf": {"RRD": {METRIC: 0.1}, "unknown": {METRIC: 0.2}}},
        missing=3,
        failed={"FTD": "out of memory"},
        sizes={"movielens": {"users": 943, "items": 1682}},
    )
    found = summary(study, [METRIC], num_replicates=99, progress=False)
    (world,) = found["worlds"]
    assert set(world["rows"]["RRD"]["against"]) == {"student alone", "DE", "teacher"}
    assert set(world["rows"]["DE"]["against"]) == {"student alone", "teacher"}
    section = study_section(found)
    assert section.text.startswith("A note.") and "3 tested runs are missing" in section.text
    assert "FTD (out of memory)" in section.text
    table = section.parts[1].tables[0]
    assert section.parts[1].text == "943 users; 1,682 items; 40 test users."
    assert table.header[-1] == "Published NDCG@20"
    cells = {row[0]: row[-1] for row in table.rows}
    ours = world["rows"]["RRD"]["test"][METRIC]["mean"]
    assert cells["RRD"] == f"0.1000 ({100 * (ours / 0.1 - 1):+.1f} %)" and cells["DE"] is None
    titles = [part.title for part in section.parts[1].parts]
    assert titles == ["Beside student alone", "Beside DE", "Beside teacher", "Settings and costs"]


def test_few_seeds_are_said_to_be_few(tmp_path) -> None:
    study = write_study(tmp_path, seeds=(0, 1, 2), worlds=("mf",), num_users=60)
    (world,) = summary(study, [METRIC], num_replicates=99, progress=False)["worlds"]
    assert "With 3 seeds, how much seeds differ" in findings(world, "student alone", METRIC)[-1]


def test_tables(found) -> None:
    world = found["worlds"][0]
    shown = accuracy(world, [METRIC])
    assert [row[0] for row in shown.rows] == list(EFFECTS)
    bold = [row[0] for row in shown.rows if "**" in row[1]]
    assert bold == ["SoftLabel, whole catalogue"]
    assert shown.rows[0][2] == 1 and shown.rows[1][2] == 5
    spent = {row[0]: row for row in costs(world).rows}
    assert spent["RRD"][3] == "weight" and spent["DE"][3] == "" and spent["DE"][2] == 3
    assert spent["DE"][1] == "weight 0.03, weight decay 0.001"
    assert spent["teacher"][8] == "2.0 MB" and spent["DE"][8] == "200.0 kB"
    beside = differences(world, METRIC, "teacher")
    assert "student alone" in [row[0] for row in beside.rows]
    assert differences({"rows": {}}, METRIC, "teacher") is None


def test_every_run_has_its_command(found) -> None:
    section = study_section(found)
    commands = section.parts[-1]
    assert commands.folded and commands.text.count("pyg-kd study demo.yaml --run ") == 62
    assert [part.title for part in section.parts][:3] == ["Summary", "mf", "lightgcn"]


def test_the_front_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        names = "abcdefg"
        costs_of = dict(zip(names, rng.integers(1, 5, 7).tolist(), strict=True))
        values = dict(zip(names, rng.integers(1, 5, 7).tolist(), strict=True))
        kept = front(costs_of, values)
        for name in names:
            beaten = any(
                costs_of[o] <= costs_of[name]
                and values[o] >= values[name]
                and (costs_of[o], values[o]) != (costs_of[name], values[name])
                for o in names
            )
            assert not (beaten and name in kept)
            if not beaten:  # of equals, one stands for all
                same = (costs_of[name], values[name])
                assert same in [(costs_of[k], values[k]) for k in kept]


def test_refused(results, found, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'metrics' must be of \[.*\] \(got 'map@3'\)"):
        summary(results, ["map@3"])
    with pytest.raises(ValueError, match=r"'study' must be of format .* \(got None\)"):
        write_report({}, tmp_path)
    with pytest.raises(ValueError, match=r"'folder' must be given for a summary \(got None\)"):
        write_report(found)
    with pytest.raises(ValueError, match=r"'results' must hold a tested run"):
        summary(write_study(tmp_path / "empty", worlds=()))
