"""Sharded training gives on any number of processes what it gives on one."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyg_kd.functional import gather_rows
from pyg_kd.knowledge import model_fingerprint
from pyg_kd.loader import InteractionLoader
from pyg_kd.models import MF
from pyg_kd.retrieval import load_student, save_student
from pyg_kd.sharding import attach_teacher, launch, map_model, process_group
from tests.sharding import work

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("torchrec") is None, reason="TorchRec is not installed: make torchrec"
    ),
]

Found = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module")
def two(folder: Path) -> Found:
    found = launch(work.two, str(folder), num_processes=2, num_threads=1, accelerator="cpu")
    for name in ("for-1", "for-2", "for-3", "for-table", "for-errors"):
        shutil.copytree(folder / "half", folder / name)
    return found


@pytest.fixture(scope="module")
def one(folder: Path, two: Found) -> Found:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with process_group("cpu"):
        found = work.one(str(folder))
    torch.set_num_threads(threads)
    return found


@pytest.fixture(scope="module")
def three(folder: Path, two: Found) -> Found:
    return launch(work.three, str(folder), num_processes=3, num_threads=1, accelerator="cpu")


def check(found: Found, expected: Found, atol: float = 1e-6) -> None:
    for name in ("user", "item"):
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=atol)
    assert found["best"] == expected["best"]
    assert len(found["rows"]) == len(expected["rows"]) == work.EPOCHS
    for row, other in zip(found["rows"], expected["rows"], strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            assert value == pytest.approx(other[name], rel=1e-6), name


def test_enough_steps() -> None:
    graph, _ = work.graphs()
    assert work.EPOCHS * len(InteractionLoader(graph, work.BATCH)) >= 50


@pytest.mark.parametrize("sharding", ["row", "table"])
@pytest.mark.parametrize("name", [*work.METHODS, "softmax"])
def test_two_processes_equal_one(name: str, sharding: str, one: Found, two: Found) -> None:
    check(two[sharding][name], one["row"][name])


@pytest.mark.parametrize("name", ["rrd", "htd", "softmax"])
def test_three_processes_equal_one(name: str, one: Found, three: Found) -> None:
    check(three["row"][name], one["row"][name])


@pytest.mark.parametrize("name", ["ftd", "htd", "two"])
def test_a_sharded_teacher_teaches_the_same(name: str, one: Found, two: Found) -> None:
    check(two["teacher"][name], one["row"][name])


def test_methods_learn_something(one: Found) -> None:
    alone = one["row"]["alone"]["user"]
    for name in work.METHODS:
        if name != "alone":
            assert (one["row"][name]["user"] - alone).abs().max() > 1e-3
            first, *_, last = one["row"][name]["rows"]
            assert last["loss"] < first["loss"]


@pytest.mark.parametrize("optimizer", ["rowwise_adagrad", "adagrad", "sgd"])
def test_steps_are_those_of_the_optimiser(optimizer: str) -> None:
    """BPR by hand, in float64, with dense gradients; rows without one stay where they are."""
    graph, _ = work.graphs()
    with process_group("cpu"):
        model = work.student(graph, optimizer=optimizer)
        tables = {name: model.whole(name).double().numpy() for name in ("user", "item")}
        moments = {name: np.zeros_like(x) for name, x in tables.items()}
        work.trainer(max_epochs=2, lr=0.05, seed=3).fit(model, graph)
        found = {name: model.whole(name).double().numpy() for name in ("user", "item")}
    loader = InteractionLoader(graph, work.BATCH, seed=3)
    for _ in range(2):
        for batch in loader:
            u, p, n = (x.numpy() for x in (batch.user, batch.positive, batch.negative))
            user, item = tables["user"], tables["item"]
            slope = -1 / (1 + np.exp((user[u] * (item[p] - item[n])).sum(1, keepdims=True)))
            grads = {name: np.zeros_like(x) for name, x in tables.items()}
            np.add.at(grads["user"], u, slope * (item[p] - item[n]))
            np.add.at(grads["item"], p, slope * user[u])
            np.add.at(grads["item"], n, -slope * user[u])
            for name, grad in grads.items():
                square = grad**2
                if optimizer == "rowwise_adagrad":
                    square = square.mean(1, keepdims=True)
                moments[name] += square
                root = 1 if optimizer == "sgd" else np.sqrt(moments[name]) + 1e-8
                tables[name] = tables[name] - 0.05 * grad / root
    for name, table in tables.items():
        np.testing.assert_allclose(found[name], table, rtol=0, atol=2e-6)


def test_initial_rows_are_those_of_one_process(one: Found, two: Found) -> None:
    for name in ("user", "item"):
        assert torch.equal(one["bundle"][1][name], two["bundle"][1][name])


@pytest.mark.parametrize("count", [1, 3])
def test_a_checkpoint_of_two_goes_on_with(
    count: int, one: Found, three: Found, request: pytest.FixtureRequest
) -> None:
    check((one if count == 1 else three)["resumed"], one["whole"])


def test_a_checkpoint_goes_on_to_the_same_bits(folder: Path, two: Found) -> None:
    found = launch(
        work.resumed_by_two, str(folder), num_processes=2, num_threads=1, accelerator="cpu"
    )
    for name in ("user", "item"):
        assert torch.equal(found["row"][name], two["whole"][name])
    assert found["row"]["rows"] == two["whole"]["rows"]
    check(found["table"], two["whole"])  # the other sharding


def test_a_checkpoint_keeps_its_own_files_alone(folder: Path, two: Found) -> None:
    files = sorted(path.name for path in (folder / "whole-2").iterdir())
    assert [name.split("-")[1] for name in files if name.startswith("user")] == ["000003"] * 2
    assert files[-3:] == ["sharded.json", *files[-2:]]


def test_errors_are_those_of_all_processes(three: Found) -> None:
    errors = three["errors"]
    assert "all processes need the same run, but graph is" in errors["graph"]
    assert "'data'" in errors["model"]
    assert "is from another run: lr was 0.05, is 0.1" in errors["options"]
    assert "is damaged: its checksum does not fit its content" in errors["damaged"]


def test_the_bundle_is_that_of_the_unsharded_student(
    folder: Path, one: Found, two: Found, tmp_path: Path
) -> None:
    graph, _ = work.graphs()
    manifest, tables = two["bundle"]
    plain = MF(graph, work.DIM)
    with torch.no_grad():
        plain.user_embedding.copy_(tables["user"])
        plain.item_embedding.copy_(tables["item"])
    expected = save_student(plain, tmp_path / "bundle", graph=graph)
    changing = {"created", "sha256"}
    assert {k: v for k, v in manifest.items() if k not in changing} == {
        k: v for k, v in expected.items() if k not in changing
    }
    for name in (told["file"] for told in expected["files"].values()):
        assert (folder / "bundle-2" / name).read_bytes() == (
            tmp_path / "bundle" / name
        ).read_bytes()
    items, _ = load_student(folder / "bundle-2").search([3], k=5)
    assert items.tolist() == plain.recommend(graph, 5, users=[3])[0].tolist()
    assert not list(folder.glob(".tables-*"))


def test_each_process_holds_half(two: Found) -> None:
    # Rows of 8 floats, and a number of the optimiser for each.
    assert two["bytes"] == (75 + 40) * (work.DIM + 1) * 4


def test_a_mapped_model(tmp_path: Path) -> None:
    graph, _ = work.graphs()
    with process_group("cpu"):
        model = work.student(graph)
        mapped = map_model(model, graph, tmp_path / "tables")
        assert torch.equal(mapped.user_embedding, model.whole("user"))
        mapped.user_embedding.data.zero_()
    assert np.load(tmp_path / "tables" / "user.npy").any()  # changes stay in memory
    assert mapped.recommend(graph, 3, users=[0])[0].shape == (1, 3)


def test_a_mapped_model_outlives_its_files(tmp_path: Path) -> None:
    graph, _ = work.graphs()
    with process_group("cpu"):
        model = work.student(graph)
        before, older = model.whole("user").clone(), map_model(model, graph, tmp_path)
        model.load_tables({"user": torch.zeros(150, work.DIM), "item": model.whole("item")})
        newer = map_model(model, graph, tmp_path)
    assert torch.equal(older.user_embedding, before) and not newer.user_embedding.any()


def test_tables_of_a_model_that_is_not_sharded() -> None:
    graph, _ = work.graphs()
    with process_group("cpu"):
        plain, model = MF(graph, work.DIM), work.student(graph)
        model.load_tables({key: x.detach() for key, x in plain(graph).items()})
        assert torch.equal(model.whole("item"), plain.item_embedding)
        with pytest.raises(ValueError, match=r"the table of 'user' must be \[150, 8\]"):
            model.load_tables({"user": torch.zeros(3, 8), "item": torch.zeros(80, 8)})


def test_a_model_without_a_group() -> None:
    graph, _ = work.graphs()
    with pytest.raises(RuntimeError, match=r"inside of pyg_kd\.sharding\.process_group"):
        work.student(graph)


@pytest.mark.parametrize("row", [-1, 80])
def test_rows_out_of_range(row: int) -> None:
    graph, _ = work.graphs()
    with process_group("cpu"):
        model = work.student(graph)
        with pytest.raises(ValueError, match=r"ids\['item'\]"):
            model.rows("item", torch.tensor([0, row]))


def test_a_teacher_of_another_graph_or_with_nan() -> None:
    graph, _ = work.graphs()
    with process_group("cpu"):
        teacher = work.student(graph)
        teacher.fitted_on = "0" * 64
        with pytest.raises(ValueError, match="'teacher' was fitted on another graph"):
            attach_teacher(graph, teacher)
        teacher.fitted_on = None
        teacher.local_rows("item")[0].tensor[7, 2] = torch.nan
        with pytest.raises(ValueError, match="row 7 of the teacher's 'item' table is not finite"):
            attach_teacher(graph, teacher)


def test_a_sharded_teacher_is_read_by_rows() -> None:
    graph, _ = work.graphs()
    with process_group("cpu"):
        teacher = work.student(graph)
        x = attach_teacher(graph, teacher)["user"].teacher_x
        whole, index = teacher.whole("user"), torch.tensor([3, 149, 3])
        assert x.shape == whole.shape
        for rows in (x[index], x.index_select(0, index), gather_rows(x, index)):
            assert torch.equal(rows, whole[index])
        with pytest.raises(TypeError, match="of a sharded teacher as a whole"):
            x.sum()


def test_the_fingerprint_is_that_of_an_unsharded_model() -> None:
    graph, _ = work.graphs()
    with process_group("cpu"):
        plain, model = MF(graph, work.DIM), work.student(graph)
        model.load_tables({key: x.detach() for key, x in plain(graph).items()})
        assert model.fingerprint() == model_fingerprint(plain)
