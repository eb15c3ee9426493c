"""Knowledge in shards, against brute force and against what is extracted in memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from copy import copy
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_kd.distill import RelaxedRankingDistillation, SoftLabel
from pyg_kd.knowledge import (
    extract_knowledge,
    extract_shards,
    load_knowledge,
    load_shards,
    save_knowledge,
)
from pyg_kd.knowledge.confidence import trusted_lists
from pyg_kd.models import CML, EASE, MF, LightGCN
from pyg_kd.training import Trainer
from pyg_kd.typing import INTERACTS

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")

NAMES = ("teacher_x", "teacher_items", "teacher_users", "teacher_scores", "teacher_rows")


@pytest.fixture
def named(data: HeteroData) -> HeteroData:
    """Users by name, items by number."""
    data["user"].raw_id = [f"user é {u}" for u in range(23)]
    data["item"].raw_id = torch.arange(31).flip(0) * 10
    return data


def same(one: HeteroData, other: HeteroData) -> None:
    for node_type in ("user", "item"):
        for name in NAMES:
            assert (name in one[node_type]) == (name in other[node_type]), (node_type, name)
            if name in one[node_type]:
                a, b = one[node_type][name], other[node_type][name]
                assert a.dtype == b.dtype and torch.equal(a, b), (node_type, name)
    for name in ("graph_fingerprint", "teacher_fingerprint", "teacher_inner_product"):
        assert one[name] == other[name]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def oracle(teacher, data: HeteroData, user: int, k: int) -> tuple[list[int], list[float]]:
    x = {key: value.detach().double().numpy() for key, value in teacher(data).items()}
    scores = x["item"] @ x["user"][user]
    edges = data[INTERACTS].edge_index
    seen = set(edges[1][edges[0] == user].tolist())
    left = sorted((i for i in range(31) if i not in seen), key=lambda i: (-scores[i], i))[:k]
    return left, scores[left].tolist()


def test_the_files_hold_what_they_say(named, teacher, tmp_path) -> None:
    assert extract_shards(teacher, named, tmp_path, num_items=28, num_users=6, rows=9)
    names = [f"users-0000{n}.parquet" for n in range(3)] + [
        f"items-0000{n}.parquet" for n in range(4)
    ]
    assert {path.name for path in tmp_path.iterdir()} == {*names, "manifest.json"}
    rows = [row for name in names[:3] for row in parquet.read_table(tmp_path / name).to_pylist()]
    assert [row["node"] for row in rows] == [*range(23)]
    assert [row["user"] for row in rows] == named["user"].raw_id
    for user, row in enumerate(rows):
        items, scores = oracle(teacher, named, user, 28)
        assert row["items"] == items and row["scores"] == scores
        assert row["vector"] == teacher.user_embedding[user].tolist()
    schema = parquet.read_schema(tmp_path / names[0])
    assert schema.metadata[b"pyg_kd.graph_fingerprint"].decode()[:4] != ""
    items = [row for name in names[3:] for row in parquet.read_table(tmp_path / name).to_pylist()]
    assert [row["item"] for row in items] == named["item"].raw_id.tolist()
    lists = extract_knowledge(teacher, named, num_items=0, num_users=6)["item"].teacher_users
    assert [row["users"] for row in items] == [[u for u in row if u >= 0] for row in lists.tolist()]
    scores = (teacher.item_embedding @ teacher.user_embedding.t()).detach()
    assert items[5]["scores"] == scores[5, items[5]["users"]].tolist()


@pytest.mark.parametrize("rows", [2, 23, 100])
@pytest.mark.parametrize(("num_items", "num_users"), [(7, 0), (0, 5), (31, 23), (0, 0), (4, 1)])
def test_what_is_loaded_is_what_is_extracted(data, teacher, tmp_path, rows, num_items, num_users):
    lengths = {"num_items": num_items, "num_users": num_users}
    extract_shards(teacher, data, tmp_path, rows=rows, **lengths, row_block=4, col_tile=11)
    same(load_shards(tmp_path, data), extract_knowledge(teacher, data, **lengths))


@pytest.mark.parametrize("model_class", [LightGCN, CML, EASE])
def test_models_of_other_kinds(data, model_class, tmp_path) -> None:
    torch.manual_seed(0)
    teacher = model_class(data) if model_class is EASE else model_class(data, 5)
    extract_shards(teacher, data, tmp_path, num_items=6, num_users=4, rows=23)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    same(load_shards(tmp_path, data), extract_knowledge(teacher, data, num_items=6, num_users=4))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(data, teacher, tmp_path, dtype) -> None:
    teacher = teacher.to(dtype)
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        extract_shards(teacher, data, folder, num_items=6, rows=8, workers=workers)
    found = load_shards(tmp_path / "2", data)
    assert content(tmp_path / "1") == content(tmp_path / "2")
    wanted = extract_knowledge(teacher, data, num_items=6)
    assert torch.equal(found["user"].teacher_items, wanted["user"].teacher_items)
    assert torch.equal(
        found["user"].teacher_x, wanted["user"].teacher_x.to(found["user"].teacher_x)
    )
    assert found["user"].teacher_x.dtype == (
        torch.float64 if dtype == torch.float64 else torch.float
    )


@pytest.mark.parametrize("model_class", [MF, CML])
def test_two_workers_leave_the_bytes_of_one(named, model_class, tmp_path) -> None:
    torch.manual_seed(0)
    teacher = model_class(named, 7)
    for workers in (1, 2):
        options = {"num_items": 9, "num_users": 5, "rows": 4, "workers": workers}
        assert extract_shards(teacher, named, tmp_path / str(workers), **options)
    assert content(tmp_path / "1") == content(tmp_path / "2")
    for rank in (1, 0):  # and so do processes that share a folder
        options = {"num_items": 9, "num_users": 5, "rows": 4, "rank": rank, "world_size": 2}
        assert extract_shards(teacher, named, tmp_path / "3", **options) is (rank == 0)
    assert content(tmp_path / "1") == content(tmp_path / "3")


class Slow(MF):
    def score_block(self, x_user, x_item):
        time.sleep(0.05)
        return x_user @ x_item.t()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
@pytest.mark.parametrize("workers", [1, 2])
def test_an_extraction_that_is_killed_goes_on(data, tmp_path, workers) -> None:
    torch.manual_seed(0)
    options = {"num_items": 9, "num_users": 5, "rows": 2}
    teacher = Slow(data, 7)
    extract_shards(teacher, data, tmp_path / "whole", **options)
    folder = tmp_path / "killed"

    def work() -> None:
        torch.set_num_threads(1)
        extract_shards(teacher, data, folder, workers=workers, **options)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    while len(list(folder.glob("work/users-*.json"))) < 3 and process.is_alive():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL and not (folder / "manifest.json").exists()
    with pytest.raises(ValueError, match="no complete shards"):
        load_shards(folder, data)
    kept = {p.name: p.stat().st_mtime_ns for p in folder.glob("users-*.parquet")}
    assert kept and extract_shards(teacher, data, folder, **options)
    now = {name: (folder / name).stat().st_mtime_ns for name in kept}
    # At most what was just being written is made again.
    assert sum(now[name] != kept[name] for name in kept) <= workers
    assert content(folder) == content(tmp_path / "whole")


THREADED = """
import sys, torch
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.knowledge import extract_shards
from pyg_kd.models import MF
if __name__ == "__main__":
    torch.set_num_threads(2)
    x = torch.rand(1000, 1000)
    assert (x @ x).sum() > 0 and x.exp().sum() > 0  # OpenMP has its threads now
    data = SyntheticInteractions(None, num_users=300, num_items=2000, num_edges=2000)[0]
    torch.manual_seed(0)
    for threads in (1, 2):
        folder = f"{sys.argv[1]}/{threads}"
        options = {"num_items": 9, "num_users": 5, "rows": 100, "threads": threads}
        extract_shards(MF(data, 64), data, folder, workers=2, **options)
        print(torch.get_num_threads())
"""


@pytest.mark.slow
def test_workers_survive_the_threads_of_their_launcher(tmp_path) -> None:
    script = tmp_path / "threaded.py"
    script.write_text(THREADED)
    command = [sys.executable, str(script), str(tmp_path)]
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=env)
    assert done.stdout == "2\n2\n", done.stderr
    names = [{path.name for path in (tmp_path / str(n)).iterdir()} for n in (1, 2)]
    assert names[0] == names[1] and "manifest.json" in names[0]


def ids(size: int = 23):
    return st.lists(st.integers(0, size - 1), max_size=size)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(given_users=ids(), wanted=ids(), rows=st.integers(1, 30))
@example(given_users=[], wanted=[], rows=3)
@example(given_users=[22], wanted=[22], rows=1)
@example(given_users=[*range(23)], wanted=[0], rows=22)
def test_some_users_are_extracted_and_loaded(data, teacher, given_users, wanted, rows) -> None:
    whole = extract_knowledge(teacher, data, num_items=6)["user"].teacher_items
    with TemporaryDirectory() as folder:
        extract_shards(teacher, data, folder, num_items=6, users=given_users, rows=rows)
        found = load_shards(folder, data, scores=True)["user"]
        there = sorted(set(given_users))
        assert torch.equal(found.teacher_items, whole[there])
        assert found.teacher_scores.shape == (len(there), 6)
        assert found.teacher_rows.tolist() == there and "teacher_x" not in found
        few = sorted(set(wanted) & set(there))
        assert torch.equal(load_shards(folder, data, users=few)["user"].teacher_items, whole[few])
        if missing := set(wanted) - set(there):
            with pytest.raises(
                ValueError, match=rf"'users' must have lists in .*got {min(missing)}"
            ):
                load_shards(folder, data, users=wanted)


def test_a_worker_reads_its_shards_alone(data, teacher, tmp_path) -> None:
    extract_shards(teacher, data, tmp_path, num_items=6, num_users=3, rows=5)
    whole = load_shards(tmp_path, data)
    (tmp_path / "users-00000.parquet").write_bytes(
        bytes(len((tmp_path / "users-00000.parquet").read_bytes()))
    )
    part = load_shards(tmp_path, data, users=torch.arange(7, 14))
    assert torch.equal(part["user"].teacher_items, whole["user"].teacher_items[7:14])
    assert part["user"].teacher_rows.tolist() == [*range(7, 14)]
    assert torch.equal(part["item"].teacher_users, whole["item"].teacher_users)
    with pytest.raises(ValueError, match=r"users-00000.parquet' is damaged"):
        load_shards(tmp_path, data, users=[4, 5])
    with pytest.raises(ValueError, match=r"users-00000.parquet' is damaged"):
        load_shards(tmp_path, data)


@pytest.mark.parametrize("scores", [False, True])
def test_methods_learn_the_same(data, teacher, tmp_path, scores) -> None:
    extract_shards(teacher, data, tmp_path, num_items=12, rows=5)
    graph = load_shards(tmp_path, data, scores=scores)
    wanted = extract_knowledge(teacher, data, num_items=12)
    if scores:
        x = teacher(data)
        lists = wanted["user"].teacher_items.long()
        values = (x["user"] @ x["item"].t()).detach().gather(1, lists.clamp(min=0))
        wanted["user"].teacher_scores = values.masked_fill(lists < 0, 0.0)
    states = []
    for source in (graph, wanted):
        torch.manual_seed(0)
        student = MF(data, dim=3)
        methods = [(SoftLabel(num_listed=12), 1.0), (rrd(), 0.1)]
        Trainer(max_epochs=2, batch_size=32).fit(student, source, distillations=methods)
        states.append(student.user_embedding.detach())
    assert torch.equal(*states)


def rrd() -> RelaxedRankingDistillation:
    return RelaxedRankingDistillation(num_interesting=4, num_uninteresting=5)


def test_methods_take_the_lists_of_others_for_empty(data, teacher, tmp_path) -> None:
    some = extract_knowledge(teacher, data, num_items=12, users=[3, 8, 20])
    spread = copy(some)
    spread["user"].teacher_items = trusted_lists(some)[0]
    del spread["user"].teacher_rows
    assert spread["user"].teacher_items.shape == (23, 12)
    save_knowledge(some, tmp_path / "some.safetensors")
    loaded = load_knowledge(tmp_path / "some.safetensors", data)
    same(loaded, some)
    states = []
    for source in (some, spread, loaded):
        torch.manual_seed(0)
        student = MF(data, dim=3)
        Trainer(max_epochs=2, batch_size=32).fit(student, source, distillations=[(rrd(), 0.1)])
        states.append(student.user_embedding.detach())
    assert torch.equal(states[0], states[1]) and torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.tensor([3, 8, 23]), r"must lie in 0..22 \(got 23\)"),
        (torch.tensor([3, 8, 8]), "must ascend, each id once"),
        (torch.tensor([3, 8]), "has 3 rows for 2 nodes"),
        (torch.tensor([3, 8, 9], dtype=torch.int32), "must be int64 of one dimension"),
    ],
)
def test_wrong_rows_are_refused(data, teacher, rows, message) -> None:
    graph = extract_knowledge(teacher, data, num_items=12, users=[3, 8, 20])
    graph["user"].teacher_rows = rows
    with pytest.raises(ValueError, match=message):
        Trainer(max_epochs=1).fit(MF(data, dim=3), graph, distillations=[(rrd(), 0.1)])


def test_another_graph_is_refused(data, teacher, tmp_path) -> None:
    extract_shards(teacher, data, tmp_path, num_items=6)
    other = copy(data)
    other[INTERACTS].edge_index = data[INTERACTS].edge_index[:, 1:]
    with pytest.raises(ValueError, match="holds knowledge of another graph"):
        load_shards(tmp_path, other)
    with pytest.raises(ValueError, match="another request, with graph_fingerprint="):
        extract_shards(teacher, other, tmp_path, num_items=6)
    with torch.no_grad():
        teacher.user_embedding.add_(1)
    with pytest.raises(ValueError, match="another request, with teacher_fingerprint="):
        extract_shards(teacher, data, tmp_path, num_items=6)
    assert extract_shards(teacher, data, tmp_path, num_items=6, overwrite=True)


def test_loading_drops_what_was_there(data, teacher, tmp_path) -> None:
    extract_shards(teacher, data, tmp_path, num_items=6, vectors=False)
    before = extract_knowledge(MF(data, 4), data, num_items=3, num_users=2)
    graph = load_shards(tmp_path, before)
    assert "teacher_users" not in graph["item"] and "teacher_x" not in graph["user"]
    again = load_shards(tmp_path, load_shards(tmp_path, graph, users=[2], scores=True))
    assert "teacher_rows" not in again["user"] and "teacher_scores" not in again["user"]
    assert set(data["user"].keys()) == {"num_nodes"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rows": 0}, ValueError, "'rows' must be a positive integer"),
        ({"threads": 0}, ValueError, "'threads' must be a positive integer"),
        ({"num_items": 32}, ValueError, r"'num_items' must lie in 0..31 \(got 32\)"),
        ({"num_items": 3.0}, TypeError, "'num_items' must be an integer"),
        ({"users": [1], "num_users": 2}, ValueError, "'num_users' must be 0 where 'users'"),
        ({"users": [23]}, ValueError, "'users' must lie in 0..22"),
        ({"row_block": 0}, ValueError, "'row_block' must be a positive integer"),
        ({"engine": "x"}, ValueError, "'engine' must be one of"),
    ],
)
def test_wrong_options(data, teacher, tmp_path, options, error, message) -> None:
    with pytest.raises(error, match=message):
        extract_shards(teacher, data, tmp_path / "folder", **options)


def test_pyarrow_is_named_where_it_is_missing(data, teacher, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"shards need pyarrow: pip install 'pyg_kd\[tables\]'"):
        extract_shards(teacher, data, tmp_path)


@pytest.mark.parametrize("model_class", [MF, CML])
def test_ray_leaves_the_bytes_of_one_process(named, model_class, tmp_path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'pyg_kd[ray]'")
    torch.manual_seed(0)
    teacher = model_class(named, 7)
    options = {"num_items": 9, "num_users": 5, "rows": 4}
    extract_shards(teacher, named, tmp_path / "1", **options)
    extract_shards(teacher, named, tmp_path / "2", **options, workers=2, engine="ray")
    assert content(tmp_path / "1") == content(tmp_path / "2")
