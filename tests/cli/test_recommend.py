"""Lists in files: forms, order, filters, unknown users, and what a crash leaves."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pandas
import pytest

from pyg_kd.cli.lists import job
from pyg_kd.retrieval import TopKIndex, load_student, save_index


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The bundle of a random index: 50 users by name, 30 items by number."""
    path = tmp_path_factory.mktemp("lists") / "bundle"
    make_index(50, 30, names=True, path=path)
    return path


def make_index(num_users, num_items, *, names, path, seed=0):
    rng = np.random.default_rng(seed)
    degree = rng.integers(0, num_items // 2, num_users)
    degree[3] = num_items - 2  # a list that ends early
    col = [np.sort(rng.permutation(num_items)[:n]) for n in degree]
    users = (
        [f'user "{u}", é' for u in range(num_users)] if names else rng.permutation(num_users) + 7
    )
    index = TopKIndex(
        rng.normal(size=(num_users, 4)),
        rng.normal(size=(num_items, 4)),
        seen=(np.append(0, np.cumsum(degree)), np.concatenate(col)),
        user_ids=users,
        item_ids=rng.permutation(num_items) + 1000,
    )
    save_index(index, path)
    return index


def expected(bundle, users, k, **options):
    """What the index lists for one user after another."""
    index = load_student(bundle)
    lists = {}
    for user in users:
        items, scores = index.search([user], k, **options)
        keep = scores[0] > -np.inf
        lists[user] = items[0][keep].tolist(), scores[0][keep]
    return lists


def by_user(path):
    """The lists in a file, in the order of the users."""
    kind = path.suffix
    if kind == ".jsonl":
        rows = map(json.loads, path.read_text().splitlines())
        return {row["user"]: (row["items"], np.array(row["scores"])) for row in rows}
    frame = (
        pandas.read_parquet(path)
        if kind == ".parquet"
        else pandas.read_csv(path, sep="," if kind == ".csv" else "\t")
    )
    assert list(frame.columns) == ["user", "rank", "item", "score"]
    lists = {}
    for user, rows in frame.groupby("user", sort=False):
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1))
        lists[user] = rows["item"].tolist(), rows["score"].to_numpy()
    return lists


def check(found, wanted):
    assert list(found) == [user for user, (items, _) in wanted.items() if items]
    for user, (items, scores) in found.items():
        assert items == wanted[user][0]
        assert np.asarray(scores) == pytest.approx(wanted[user][1], rel=1e-5)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_all_users_in_every_form(run, bundle, tmp_path, ending):
    out = tmp_path / f"lists.{ending}"
    result = run("recommend", bundle, "--out", out, "--k", 6, "--part-size", 7)
    assert result.code == 0 and result.out == "" and f"wrote {out}" in result.err
    users = load_student(bundle).users.take(np.arange(50)).tolist()
    check(by_user(out), expected(bundle, users, 6))
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


def test_the_precision_of_scores_survives(run, bundle, tmp_path):
    run("recommend", bundle, "--out", tmp_path / "a.parquet", "--k", 6)
    exact = pandas.read_parquet(tmp_path / "a.parquet")["score"].to_numpy()
    assert exact.dtype == np.float32
    run("recommend", bundle, "--out", tmp_path / "a.csv", "--k", 6)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    assert np.array_equal(np.array([row["score"] for row in rows], np.float32), exact)
    lines = run("recommend", bundle, "--k", 6).out.splitlines()
    scores = [score for line in lines for score in json.loads(line)["scores"]]
    assert np.array_equal(np.array(scores, np.float32), exact)


def test_some_users_in_their_order(run, bundle, tmp_path):
    users = ['user "9", é', 'user "2", é', 'user "9", é']
    path = tmp_path / "users.txt"
    path.write_text("\n".join(users) + "\n\n")
    result = run("recommend", bundle, "--users", path, "--k", 4)
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert [row["user"] for row in rows] == users
    wanted = expected(bundle, users, 4)
    assert all(row["items"] == wanted[row["user"]][0] for row in rows)


def test_users_from_standard_input(run, bundle, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO('user "9", é\r\n'))
    result = run("recommend", bundle, "--users", "-", "--k", 2)
    assert json.loads(result.out)["user"] == 'user "9", é'
    refused = run("recommend", bundle, "--users", "-", "--out", "x.csv")
    assert refused.code == 2 and "standard output" in refused.err


def test_users_from_a_pipe(run, bundle):
    def piped(text, *words):
        read, write = os.pipe()
        os.write(write, text.encode())
        os.close(write)
        try:
            return run("recommend", bundle, "--users", f"/dev/fd/{read}", "--k", 2, *words)
        finally:
            os.close(read)

    users = [f'user "{n}", é' for n in (9, 2)]
    result = piped("\n".join(users))
    assert [json.loads(line)["user"] for line in result.out.splitlines()] == users
    refused = piped(f"{users[0]}\neve\n")
    assert refused.code == 2 and "user 2 of '/dev/fd/" in refused.err
    for words in (["--out", "x.csv"], ["--out", "x", "--shards"]):
        refused = piped(users[0], *words)
        assert refused.code == 2 and "'users' can come from standard input or a" in refused.err


def test_sharing_without_shards(run, bundle):
    refused = run("recommend", bundle, "--workers", 2, "--worker-threads", 4)
    assert refused.code == 2
    assert "error: --workers and --worker-threads can only be given with --shards" in refused.err


@pytest.mark.parametrize("name", ["exclude", "candidates"])
def test_items_from_a_pipe_are_not_told_from_others(run, bundle, tmp_path, name):
    os.mkfifo(pipe := tmp_path / "pipe")
    refused = run("recommend", bundle, f"--{name}", pipe, "--out", tmp_path / "x.csv")
    assert refused.code == 2 and f"'{name}' can come from standard input or a" in refused.err


def test_filters(run, bundle, tmp_path):
    users = ['user "1", é', 'user "2", é', 'user "3", é']
    (tmp_path / "users.txt").write_text("\n".join(users))
    (tmp_path / "out.txt").write_text("1001\n1002\n5\nx\n")
    (tmp_path / "in.txt").write_text("\n".join(str(i) for i in range(1000, 1020)))
    words = ["--users", tmp_path / "users.txt", "--k", 30]
    options = {"exclude": [1001, 1002], "candidates": list(range(1000, 1020))}
    words += ["--exclude", tmp_path / "out.txt", "--candidates", tmp_path / "in.txt"]
    for more, given in (([], {}), (["--no-exclude-seen"], {"exclude_seen": False})):
        result = run("recommend", bundle, *words, *more)
        assert "warning: 2 of 4 items" in result.err
        rows = {row["user"]: row["items"] for row in map(json.loads, result.out.splitlines())}
        wanted = expected(bundle, users, 30, **options, **given)
        assert rows == {user: items for user, (items, _) in wanted.items()}


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_unknown_users(run, tmp_path, names, ending):
    index = make_index(20, 12, names=names, path=tmp_path / "bundle")
    known = index.users.take(np.array([4, 5])).tolist()
    path, out = tmp_path / "users.txt", tmp_path / f"lists.{ending}"
    path.write_text(f"{known[0]}\n987654\n{known[1]}\n")
    words = ["recommend", tmp_path / "bundle", "--users", path, "--k", 3, "--out", out]
    refused = run(*words)
    assert refused.code == 2 and "user 2 of" in refused.err and "'987654'" in refused.err
    assert not out.exists()
    skipped = run(*words, "--unknown", "skip")
    assert "warning: 1 of 3 users are unknown, and skipped" in skipped.err
    check(by_user(out), expected(tmp_path / "bundle", known, 3))
    assert run(*words, "--unknown", "popular", "--overwrite").code == 0
    found = by_user(out)
    popular, _ = index.most_popular(3)
    stranger = "987654" if names else 987654
    assert found[stranger][0] == popular.tolist()
    assert list(found) == [known[0], stranger, known[1]]
    path.write_text("x y z\n")
    text = run(*words, "--unknown", "popular", "--overwrite")
    assert text.code == (0 if names else 2)
    assert names or "must be integer (got 'x y z')" in text.err


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_new_users_by_their_items(run, tmp_path, names, ending):
    index = make_index(20, 12, names=names, path=tmp_path / "bundle")
    ids = index.items.take(np.arange(12)).tolist()
    path, out = tmp_path / "history.tsv", tmp_path / f"lists.{ending}"
    pairs = [(501, ids[3]), (500, ids[1]), (501, ids[4]), (501, ids[3])]
    path.write_text("who\twhat\n" + "".join(f"{u}\t{i}\n" for u, i in pairs))
    words = ["recommend", tmp_path / "bundle", "--history", path, "--user", "who"]
    words += ["--item", "what", "--k", 4, "--out", out]
    assert run(*words).code == 0
    items, scores = index.search_history([[ids[3], ids[4]], [ids[1]]], 4)
    users = ["501", "500"] if names and ending != "csv" else [501, 500]
    check(by_user(out), dict(zip(users, zip(items.tolist(), scores, strict=True), strict=True)))
    path.write_text(path.read_text() + "502\t5\n")
    refused = run(*words, "--overwrite")
    assert refused.code == 2 and "has an unknown item ('5')" in refused.err
    assert run(*words, "--overwrite", "--unknown", "skip").code == 0
    assert len(by_user(out)) == 2
    assert run(*words, "--overwrite", "--unknown", "popular").code == 0
    assert list(by_user(out).values())[2][0] == index.most_popular(4)[0].tolist()


def test_a_file_that_is_there(run, bundle, tmp_path):
    out = tmp_path / "lists.csv"
    out.write_text("mine")
    words = ["recommend", bundle, "--out", out, "--k", 2]
    refused = run(*words)
    assert refused.code == 2 and "is there already: --overwrite replaces it" in refused.err
    assert out.read_text() == "mine"
    assert run(*words, "--overwrite").code == 0 and out.read_text().startswith("user,rank")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_an_interruption_costs_a_part_and_changes_nothing(
    run, bundle, tmp_path, monkeypatch, ending
):
    whole, out = tmp_path / f"whole.{ending}", tmp_path / f"lists.{ending}"
    words = ["recommend", bundle, "--k", 5, "--part-size", 8]
    assert run(*words, "--out", whole).code == 0
    lists, ranked = job.Ranking.lists, []

    def counted(self, block, progress):
        ranked.append(len(block.users))
        if len(ranked) == 4:
            raise KeyboardInterrupt
        return lists(self, block, progress)

    monkeypatch.setattr(job.Ranking, "lists", counted)
    assert run(*words, "--out", out).code == 130
    assert not out.exists()
    other = run(*words, "--out", out, "--exclude", os.devnull)
    assert other.code == 2 and "parts of another request: --overwrite removes them" in other.err
    continued = run(*words, "--out", out)
    assert continued.code == 0 and "continuing after 3 parts" in continued.err
    assert ranked == [8, 8, 8, 8, 8, 8, 8, 2]  # the fourth part twice
    assert out.read_bytes() == whole.read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {out.name, whole.name}


def test_parts_of_another_bundle_are_not_continued(run, tmp_path, monkeypatch):
    make_index(20, 12, names=True, path=tmp_path / "bundle")
    out = tmp_path / "lists.csv"
    words = ["recommend", tmp_path / "bundle", "--k", 5, "--part-size", 8, "--out", out]

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(job.Format, "merge", interrupted)
    assert run(*words).code == 130
    monkeypatch.undo()
    make_index(20, 12, names=True, path=tmp_path / "bundle", seed=1)
    assert "parts of another request" in run(*words).err
    assert run(*words, "--overwrite").code == 0
    users = load_student(tmp_path / "bundle").users.take(np.arange(20)).tolist()
    check(by_user(out), expected(tmp_path / "bundle", users, 5))


def test_a_killed_process(run, tmp_path):
    make_index(1500, 50, names=False, path=tmp_path / "bundle")
    out, parts = tmp_path / "lists.csv", tmp_path / "lists.csv.parts"
    words = ["recommend", tmp_path / "bundle", "--k", 10, "--part-size", 10]
    words = [str(word) for word in words]
    command = [sys.executable, "-m", "pyg_kd.cli", *words, "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(parts.glob("*.csv"))) < 5:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists() and len(list(parts.glob("*.csv"))) >= 5
    continued = run(*words, "--out", out)
    assert continued.code == 0 and "continuing after" in continued.err
    assert run(*words, "--out", tmp_path / "whole.csv").code == 0
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not parts.exists()


def test_memory_does_not_grow_with_the_users(run, tmp_path):
    peaks = []
    for users in (2_000, 8_000):
        make_index(users, 40, names=True, path=tmp_path / str(users))
        words = ["--k", 5, "--part-size", 1000, "--out", tmp_path / f"{users}.csv"]
        tracemalloc.start()
        assert run("recommend", tmp_path / str(users), *words).code == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_lists_longer_than_the_catalogue_are_not_made(run, bundle, tmp_path, monkeypatch):
    asked = []
    search = TopKIndex.search

    def counted(index, users, k, **options):
        asked.append(k)
        return search(index, users, k, **options)

    monkeypatch.setattr(TopKIndex, "search", counted)
    for k in (30, 10**9):
        assert run("recommend", bundle, "--out", tmp_path / f"{k}.csv", "--k", k).code == 0
    assert set(asked) == {30}
    assert (tmp_path / "30.csv").read_bytes() == (tmp_path / f"{10**9}.csv").read_bytes()


def test_no_users_at_all(run, bundle, tmp_path):
    (tmp_path / "users.txt").write_text("\n")
    for ending in ("csv", "jsonl", "parquet"):
        out = tmp_path / f"lists.{ending}"
        words = ["--users", tmp_path / "users.txt", "--out", out]
        assert run("recommend", bundle, *words).code == 0
        assert by_user(out) == {}


def test_a_bundle_needs_no_torch(bundle, tmp_path):
    code = """
import sys
from pyg_kd.cli import main

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torch_geometric", "pandas", "scipy"):
            raise ImportError(f"there is no {name}")

sys.meta_path.insert(0, Missing())
bundle, out = sys.argv[1:]
assert main(["recommend", bundle, "--out", out + "/lists.csv"]) == 0
assert main(["recommend", bundle, "--out", out + "/lists.parquet"]) == 0
assert main(["export", bundle, out + "/vectors", "--format", "parquet"]) == 0
assert main(["latency", bundle, "--requests", "20", "--warmup", "1"]) == 0
"""
    words = [sys.executable, "-c", code, str(bundle), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_has_had_enough(tmp_path):
    make_index(6000, 50, names=False, path=tmp_path / "bundle")
    command = [sys.executable, "-m", "pyg_kd.cli", "recommend", str(tmp_path / "bundle")]
    process = subprocess.Popen(
        [*command, "--no-progress"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert json.loads(process.stdout.readline())["items"]
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--k", 0], "'k' must be a positive integer (got 0)"),
        (["--out", "lists.txt"], "'out' must end in .csv, .tsv, .jsonl or .parquet, or be -"),
        (["--users", "no.txt"], "No such file or directory: 'no.txt'"),
        (["--users", "a", "--history", "b"], "'users' and 'history' cannot both be given"),
        (["--history", "no.csv"], "No such file or directory: 'no.csv'"),
        (["--history", "no.xls"], "must end in .csv"),
        (["--backend", "magic"], "backend"),
        (["--exclude", "no.txt"], "No such file or directory: 'no.txt'"),
    ],
)
def test_mistakes(run, bundle, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    result = run("recommend", bundle, *words)
    assert result.code == 2 and message in result.err and result.out == ""
    assert list(tmp_path.iterdir()) == []
