"""Knowledge of a run in shards, and lists of a bundle in shards."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from pyg_kd.cli.pipeline.data import read_graphs
from pyg_kd.cli.pipeline.saved import SavedRun
from pyg_kd.knowledge import extract_knowledge, load_shards
from pyg_kd.retrieval import load_student
from pyg_kd.retrieval.shards import read_list_shards


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check(found, run, name, num_items, num_users):
    saved = SavedRun.open(run)
    graphs = read_graphs(saved.data)
    wanted = extract_knowledge(
        saved.model(name, graphs), graphs.train, num_items=num_items, num_users=num_users
    )
    graph = load_shards(found, graphs.train)
    assert graph.teacher_fingerprint == wanted.teacher_fingerprint
    for node_type, key in (("user", "teacher_items"), ("item", "teacher_users")):
        assert graph[node_type][key].shape == wanted[node_type][key].shape
        # Equal but for what rounding decides.
        assert (graph[node_type][key] == wanted[node_type][key]).float().mean() > 0.99
    assert torch.equal(graph["item"].teacher_x, wanted["item"].teacher_x)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_of_train(run, trained, tmp_path, workers):
    words = ["--num-items", 8, "--num-users", 5, "--part-size", 20, "--workers", workers]
    result = run("extract", trained, "--out", tmp_path / "shards", *words, "--no-progress")
    assert result.code == 0 and result.out == "" and f"wrote {tmp_path / 'shards'}" in result.err
    check(tmp_path / "shards", trained, "model", 8, 5)
    files = content(tmp_path / "shards")
    assert len(files) == 3 + 2 + 1
    again = run("extract", trained, "--out", tmp_path / "shards", *words, "--no-progress")
    assert again.code == 0 and content(tmp_path / "shards") == files


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_a_run_of_distill(run, distilled, tmp_path, name):
    words = ["--num-items", 8, "--num-users", 5, *([] if name == "teacher" else ["--model", name])]
    assert run("extract", distilled, "--out", tmp_path / "shards", *words).code == 0
    check(tmp_path / "shards", distilled, name, 8, 5)


def test_some_users(run, trained, tmp_path):
    (tmp_path / "users.txt").write_text("u7\nu3\n")
    words = ["--users", tmp_path / "users.txt", "--num-items", 8, "--no-vectors"]
    assert run("extract", trained, "--out", tmp_path / "shards", *words).code == 0
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(tmp_path / "shards" / "users-00000.parquet").to_pylist()
    assert sorted(row["user"] for row in rows) == ["u3", "u7"]
    assert [row.keys() for row in rows] == [{"node", "user", "items", "scores"}] * 2
    (tmp_path / "users.txt").write_text("u7\nnobody\n")
    result = run("extract", trained, "--out", tmp_path / "other", *words)
    assert result.code == 2 and "user 2 of" in result.err and "got 'nobody'" in result.err


def test_ranks_share_a_folder(run, trained, tmp_path, monkeypatch):
    words = ["--num-items", 8, "--part-size", 20, "--no-progress"]
    run("extract", trained, "--out", tmp_path / "alone", *words)
    first = run("extract", trained, "--out", tmp_path / "s", *words, "--rank", 0, "--world-size", 2)
    assert first.code == 0 and "others are at work" in first.err
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert f"wrote {tmp_path / 's'}" in run("extract", trained, "--out", tmp_path / "s", *words).err
    assert content(tmp_path / "s") == content(tmp_path / "alone")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num-items", 1000], "'num_items' must lie in 0..40 (got 1000)"),
        (["--model", "teacher"], "'model' must be one of model (got 'teacher')"),
        (["--workers", 0], "'workers' must be a positive integer"),
        (["--rank", 1], "'rank' and 'world_size' belong together"),
        (["--part-size", 0], "must be a positive integer"),
    ],
)
def test_mistakes(run, trained, tmp_path, words, message):
    result = run("extract", trained, "--out", tmp_path / "shards", *words)
    assert result.code == 2 and message in result.err and result.err.count("\n") == 1


def test_another_command_is_refused(run, trained, tmp_path):
    run("extract", trained, "--out", tmp_path / "s", "--num-items", 8)
    result = run("extract", trained, "--out", tmp_path / "s", "--num-items", 9)
    assert result.code == 2 and "with num_items=8 in place of 9" in result.err
    words = ["extract", trained, "--out", tmp_path / "s", "--num-items", 9, "--overwrite"]
    assert run(*words).code == 0


def test_ray_is_named_where_it_is_missing(run, trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    result = run("extract", trained, "--out", tmp_path / "s", "--engine", "ray")
    assert result.code == 2 and "pip install 'pyg_kd[ray]'" in result.err


def listed(folder):
    shards = list(read_list_shards(folder))
    users = [user for shard in shards for user in shard.users.tolist()]
    return users, [row for shard in shards for row in shard.items.tolist()]


def test_lists_of_a_bundle(run, distilled, tmp_path):
    bundle = distilled / "bundle"
    words = ["--k", 6, "--part-size", 20, "--shards", "--no-progress"]
    out = tmp_path / "lists"
    assert run("recommend", bundle, "--out", out, *words, "--workers", 2).code == 0
    index = load_student(bundle)
    users = index.users.take(np.arange(index.num_users)).tolist()
    assert listed(out) == (users, index.search(users, 6)[0].tolist())
    assert len(content(out)) == 4
    (tmp_path / "users.txt").write_text("u5\nnobody\nu2\n")
    (tmp_path / "sold-out.txt").write_text("101\n")
    some = ["--users", tmp_path / "users.txt", "--exclude", tmp_path / "sold-out.txt"]
    result = run("recommend", bundle, "--out", tmp_path / "b", *words, *some, "--unknown", "skip")
    assert result.code == 0 and "1 of 3 users are unknown, and skipped" in result.err
    wanted = index.search(["u5", "u2"], 6, exclude=[101])[0].tolist()
    assert listed(tmp_path / "b") == (["u5", "u2"], wanted)


def test_lists_of_new_users(run, distilled, tmp_path):
    (tmp_path / "new.csv").write_text("user,item\nnew,101\nnewer,105\nnew,105\n")
    words = ["--k", 6, "--shards", "--history", tmp_path / "new.csv", "--out", tmp_path / "lists"]
    assert run("recommend", distilled / "bundle", *words).code == 0
    index = load_student(distilled / "bundle")
    wanted = index.search_history([[101, 105], [105]], 6)[0].tolist()
    assert listed(tmp_path / "lists") == (["new", "newer"], wanted)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shards"], "'out' must be a folder for --shards"),
        (["--shards", "--out", "x", "--users", "-"], "only if lists go to standard output"),
        (["--workers", 2], "--workers can only be given with --shards"),
    ],
)
def test_mistakes_with_lists(run, distilled, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    result = run("recommend", distilled / "bundle", *words)
    assert result.code == 2 and message in result.err and not [*tmp_path.iterdir()]
