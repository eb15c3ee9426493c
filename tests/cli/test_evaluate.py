from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from pyg_kd.cli.pipeline.index_metrics import index_metrics
from pyg_kd.metrics.ranking_metrics import METRICS
from pyg_kd.retrieval import TopKIndex


def test_a_run_gives_what_it_gave(run, distilled):
    found = run("evaluate", distilled, "--no-progress").json
    written = json.loads((distilled / "metrics.json").read_text())["test"]
    assert found["metrics"] == {
        "teacher": written["teacher"],
        "alone": written["student alone"],
        "student": written["student"],
    }
    assert found["users"] == 60


def test_a_bundle_gives_what_its_student_gave(run, distilled):
    found = run("evaluate", distilled / "bundle").json
    written = json.loads((distilled / "metrics.json").read_text())["test"]["student"]
    assert found["metrics"]["bundle"] == pytest.approx(written, abs=1e-12)


def test_lengths_and_metrics(run, distilled):
    words = ["--k", "3,100", "--metrics", ",".join(METRICS), "--no-progress"]
    one = run("evaluate", distilled, *words).json["metrics"]["student"]
    other = run("evaluate", distilled / "bundle", *words).json["metrics"]["bundle"]
    assert one.keys() == {f"{name}@{k}" for name in METRICS for k in (3, 40)}
    assert one == pytest.approx(other, abs=1e-12)


@pytest.fixture
def later(tmp_path, distilled, table):
    """Two later interactions that can be found, and others that don't count."""
    known = [line.split(",")[:2] for line in table.read_text().splitlines()[1:]]
    of_u3 = {int(item) for user, item in known if user == "u3"}
    fresh = sorted(set(range(100, 140)) - of_u3)[:2]
    rows = [("u3", fresh[0]), ("u3", fresh[1]), ("u3", fresh[1])]
    rows += [("u3", min(of_u3)), ("nobody", 101), ("u3", 999), ("u4", "x")]
    path = tmp_path / "later.csv"
    path.write_text("who,what\n" + "".join(f"{u},{i}\n" for u, i in rows))
    return path, fresh


@pytest.mark.parametrize("kind", ["run", "bundle"])
def test_later_interactions(run, distilled, later, kind):
    path, fresh = later
    words = ["--interactions", path, "--user", "who", "--item", "what", "--k", 10, "--no-progress"]
    place = distilled if kind == "run" else distilled / "bundle"
    found = run("evaluate", place, *words).json
    assert (found["users"], found["interactions"]) == (1, 2)
    assert found["left out"] == {"unknown user": 1, "unknown item": 2, "known already": 1}
    listed = run("recommend", distilled / "bundle", "--k", 10, "--no-progress")
    lists = {row["user"]: row["items"] for row in map(json.loads, listed.out.splitlines())}
    recall = sum(item in lists["u3"] for item in fresh) / 2
    found = found["metrics"]["student" if kind == "run" else "bundle"]
    assert found["recall@10"] == recall


def test_mistakes(run, distilled, tmp_path):
    nowhere = run("evaluate", tmp_path)
    assert nowhere.code == 2 and "manifest.json" in nowhere.err
    shutil.copytree(distilled / "bundle", tmp_path / "alone")
    alone = run("evaluate", tmp_path / "alone")
    assert alone.code == 2 and "does not lie in a run" in alone.err
    (tmp_path / "x.csv").write_text("user,item\nnobody,1\n")
    empty = run("evaluate", distilled, "--interactions", tmp_path / "x.csv")
    assert empty.code == 2 and "holds nothing that is not known" in empty.err
    (tmp_path / "x.txt").write_text("user,item\nnobody,1\n")
    other = run("evaluate", distilled, "--interactions", tmp_path / "x.txt")
    assert other.code == 2 and "must end in .csv" in other.err


def test_a_changed_file_is_not_evaluated_on(run, table, tmp_path):
    path = tmp_path / "data.csv"
    path.write_text(table.read_text())
    words = ["--epochs", 1, "--no-progress", "--dim", 4]
    assert run("train", path, "--out", tmp_path / "run", *words).code == 0
    path.write_text(table.read_text() + "u1,139,5\n")
    changed = run("evaluate", tmp_path / "run")
    assert changed.code == 2 and "has changed since" in changed.err
    path.unlink()
    assert "is gone" in run("evaluate", tmp_path / "run").err


@pytest.mark.parametrize("seed", range(5))
def test_metrics_of_an_index_by_hand(seed):
    rng = np.random.default_rng(seed)
    users, items, k = 7, 12, 5
    x_user, x_item = rng.normal(size=(users, 3)), rng.normal(size=(items, 3))
    part = rng.integers(0, 3, (users, items))  # 0 unknown, 1 known, 2 to be found
    part[2] = 1  # nothing to be found, and nothing to list
    index = TopKIndex(x_user, x_item)
    known, targets = (torch.from_numpy(np.argwhere(part == kind).T) for kind in (1, 2))
    found = index_metrics(index, known, targets, [2, k], ["recall", "mrr"])
    recall, first = {2: [], k: []}, {2: [], k: []}
    for user in range(users):
        wanted = set(np.flatnonzero(part[user] == 2).tolist())
        if not wanted:
            continue
        scores = x_user[user].astype(np.float32) @ x_item.astype(np.float32).T
        order = [i for i in np.argsort(-scores, kind="stable").tolist() if part[user, i] != 1]
        for n in (2, k):
            hits = [item in wanted for item in order[:n]]
            recall[n].append(sum(hits) / len(wanted))
            first[n].append(1 / (1 + hits.index(True)) if any(hits) else 0.0)
    expected = {f"recall@{n}": np.mean(recall[n]) for n in (2, k)}
    expected |= {f"mrr@{n}": np.mean(first[n]) for n in (2, k)}
    assert found == pytest.approx(expected)
