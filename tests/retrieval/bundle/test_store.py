from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyg_kd.retrieval import TopKIndex
from pyg_kd.retrieval.bundle import load_student, reader, save_index, writer
from pyg_kd.retrieval.bundle.manifest import FILE, BundleError
from pyg_kd.retrieval.bundle.writer import copy_bundle
from pyg_kd.retrieval.fold_in import FoldIn
from pyg_kd.retrieval.tables import DTYPES, Table
from tests.retrieval.bundles import USERS, answers, contents, fields_of, small_index

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "int4"])
@pytest.mark.parametrize("mmap", [True, False])
def test_round_trip(tmp_path, dtype, mmap):
    index = small_index(dtype)
    save_index(index, tmp_path / "a")
    loaded = load_student(tmp_path / "a", mmap=mmap)
    assert answers(loaded) == answers(index)
    assert (loaded.dtype, loaded.nbytes) == (dtype, index.nbytes)
    for name in ("x_user", "x_item"):
        for key, array in getattr(index, name).arrays().items():
            assert np.array_equal(getattr(loaded, name).arrays()[key], array)


@pytest.mark.parametrize(
    "options",
    [
        {"seen": None},
        {"seen": None, "popularity": np.arange(9)},
        {"seen": ([0] * 8, [])},
        {"user_ids": None},
        {"item_ids": None, "user_ids": [5, -3, 2**62, 0, 1, 9, 4]},
        {"item_ids": ["a\nb", "a", "é", "e\u0301", "", " ", "\0", "😀", "b"]},
        {"popularity": np.linspace(9, 1, 9)},
    ],
)
def test_round_trip_of_what_may_be_missing(tmp_path, options):
    index = small_index(**options)
    save_index(index, tmp_path / "a")
    loaded = load_student(tmp_path / "a")
    assert answers(loaded) == answers(index)
    assert loaded.has_seen == index.has_seen
    assert loaded.users.kind == index.users.kind and loaded.items.kind == index.items.kind


IDS = {
    "user": st.text(max_size=4),
    "item": st.integers(-(2**63), 2**63 - 1),
}


@settings(max_examples=25)
@given(st.data())
def test_round_trip_of_any_index(data):
    """Any numbers of users and items, none among them, with ids of any kind."""
    sizes = {name: data.draw(st.integers(0, 6), name) for name in IDS}
    dim, dtype = data.draw(st.integers(1, 5)), data.draw(st.sampled_from(DTYPES))
    values = hnp.arrays(np.float32, (sum(sizes.values()), dim), elements=st.floats(-9, 9, width=16))
    x = data.draw(values)
    ids = {
        f"{name}_ids": data.draw(
            st.none() | st.lists(kind, min_size=sizes[name], max_size=sizes[name], unique=True)
        )
        for name, kind in IDS.items()
    }
    seen = None
    if sizes["item"] and data.draw(st.booleans()):
        degree = data.draw(hnp.arrays(np.int64, sizes["user"], elements=st.integers(0, 3)))
        ptr = np.concatenate([[0], np.cumsum(degree)])
        items = st.integers(0, sizes["item"] - 1)
        seen = ptr, data.draw(hnp.arrays(np.int32, int(ptr[-1]), elements=items))
    index = TopKIndex(x[: sizes["user"]], x[sizes["user"] :], seen=seen, dtype=dtype, **ids)
    with TemporaryDirectory() as folder:
        save_index(index, folder)
        loaded = load_student(folder, mmap=data.draw(st.booleans()))
    for one, other in ((index.x_user, loaded.x_user), (index.x_item, loaded.x_item)):
        assert np.array_equal(one.block(0, len(one)), other.block(0, len(other)))
    for one, other in ((index.users, loaded.users), (index.items, loaded.items)):
        rows = np.arange(len(one))
        assert one.kind == other.kind and one.take(rows).tolist() == other.take(rows).tolist()
        assert np.array_equal(other.find(one.take(rows)), rows)
    assert loaded.has_seen == (seen is not None)
    for one, other in zip(index.seen.pattern, loaded.seen.pattern, strict=True):
        assert np.array_equal(one, other)
    if sizes["item"] and sizes["user"]:
        assert answers(loaded) == answers(index)


def test_tables_of_two_precisions(tmp_path):
    rng = np.random.default_rng(0)
    users = Table.of(rng.normal(size=(7, 5)))
    items = Table.of(rng.normal(size=(9, 5)), "int8")
    index = TopKIndex(users, items)
    save_index(index, tmp_path / "a")
    loaded = load_student(tmp_path / "a")
    assert (loaded.x_user.dtype, loaded.x_item.dtype) == ("float32", "int8")
    assert answers(loaded) == answers(index)


@pytest.mark.parametrize(
    "fold_in",
    [
        ("propagation", {"degree_power": 0.7, "scale": 2.0}, {}),
        ("propagation", {}, {"source": np.random.default_rng(1).normal(size=(9, 5))}),
        ("ridge", {"alpha": 3.0}, {"root": np.eye(5)}),
        ("ridge", {}, {"item_weight": np.linspace(0.5, 2, 9, dtype=np.float32)}),
    ],
)
def test_how_new_users_are_folded_in(tmp_path, fold_in):
    kind, settings, arrays = fold_in
    x_item = small_index().x_item
    report = {"recall": [0.1, np.float32(0.25)], "chosen": np.int64(3)}
    given = FoldIn(kind, x_item, settings=settings, arrays=arrays, report=report)
    index = small_index(fold_in=given)
    told = save_index(index, tmp_path / "a")["fold_in"]
    assert told["kind"] == kind and told["report"] == {"recall": [0.1, 0.25], "chosen": 3}
    loaded = load_student(tmp_path / "a")
    assert loaded.fold_in.settings == given.settings
    assert loaded.fold_in.report == told["report"]
    assert answers(loaded) == answers(index)


def test_folding_in_over_another_table(tmp_path):
    index = small_index(fold_in=FoldIn("propagation", np.eye(9)))
    with pytest.raises(ValueError, match="folds in over another item table"):
        save_index(index, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_manifest_tells_what_is_there(tmp_path):
    index = small_index("int8")
    manifest = save_index(index, tmp_path / "a")
    assert manifest == fields_of(tmp_path / "a") == load_student(tmp_path / "a").info
    assert manifest["tables"]["item"] == {"rows": 9, "dim": 5, "dtype": "int8", "bytes": 63}
    assert manifest["ids"] == {"user": "text", "item": "integer"}
    assert manifest["interactions"] == 9
    assert manifest["versions"]["numpy"] == np.__version__ and "torch" not in manifest["versions"]
    written = datetime.strptime(manifest["created"], "%Y-%m-%dT%H:%M:%SZ")
    age = datetime.now(timezone.utc) - written.replace(tzinfo=timezone.utc)
    assert -1 <= age.total_seconds() < 60
    files = {entry["file"]: entry for entry in manifest["files"].values()}
    assert {*os.listdir(tmp_path / "a")} == {*files, "manifest.json"}
    for name, entry in files.items():
        assert FILE.fullmatch(name) and (tmp_path / "a" / name).stat().st_size == entry["bytes"]


def test_where_it_comes_from_stays_when_it_is_saved_again(tmp_path):
    index = small_index()
    index.info = {
        "name": "mine",
        "metrics": {"recall@20": np.float32(0.5)},
        "teacher": {"fingerprint": "t", "widths": (64, np.int64(200))},
        "versions": {"torch": "9.9"},
    }
    save_index(index, tmp_path / "a")
    again = save_index(load_student(tmp_path / "a"), tmp_path / "b")
    assert again["name"] == "mine" and again["metrics"] == {"recall@20": 0.5}
    assert again["teacher"] == {"fingerprint": "t", "widths": [64, 200]}
    assert again["versions"]["torch"] == "9.9"


@pytest.mark.parametrize(
    ("info", "error", "message"),
    [
        ({"metrics": {"a": float("nan")}}, ValueError, "not JSON compliant"),
        ({"metrics": {"a": "high"}}, ValueError, "absurd 'metrics'"),
        ({"teacher": {"a": object()}}, TypeError, "not JSON serializable"),
        ({"name": 3}, ValueError, "absurd 'name'"),
    ],
)
def test_what_cannot_be_told_leaves_the_bundle_before_it(tmp_path, info, error, message):
    index = small_index()
    save_index(index, tmp_path / "a")
    before = contents(tmp_path / "a")
    other = small_index(seed=1)
    other.info = info
    for folder in ("a", "b"):
        with pytest.raises(error, match=message):
            save_index(other, tmp_path / folder)
    assert contents(tmp_path / "a") == before and not (tmp_path / "b").exists()


def test_equal_indices_give_equal_files(tmp_path):
    for name in "ab":
        save_index(small_index(), tmp_path / name)
    files = [
        {n: d for n, d in contents(tmp_path / n).items() if n != "manifest.json"} for n in "ab"
    ]
    assert files[0] == files[1]


def test_saving_again_keeps_files_that_stay_and_removes_the_others(tmp_path):
    save_index(small_index(), tmp_path)
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    (tmp_path / "README.md").write_text("ours")
    (tmp_path / "items-notes.safetensors").write_text("no name of a bundle's")
    save_index(small_index(seed=1), tmp_path)
    after = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    kept = {name for name in before if name.startswith(("user_ids", "item_ids", "seen", "popul"))}
    assert all(after[name] == before[name] for name in kept)
    assert {n for n in before if n not in after} == {n for n in before if "s-" in n} - kept
    assert {"README.md", "items-notes.safetensors"} <= after.keys()
    assert answers(load_student(tmp_path)) == answers(small_index(seed=1))


def test_a_damaged_file_is_written_again(tmp_path):
    told = save_index(small_index(), tmp_path)
    for part, damage in (("items", b"short"), ("users", b"x" * told["files"]["users"]["bytes"])):
        (tmp_path / told["files"][part]["file"]).write_bytes(damage)
    save_index(small_index(), tmp_path)
    assert answers(load_student(tmp_path)) == answers(small_index())


def test_a_loaded_index_is_saved_over_its_own_bundle(tmp_path):
    save_index(small_index(), tmp_path)
    loaded = load_student(tmp_path)
    save_index(loaded, tmp_path)
    assert answers(load_student(tmp_path)) == answers(loaded) == answers(small_index())


def test_what_is_mapped_stays_when_the_bundle_is_replaced(tmp_path):
    save_index(small_index(), tmp_path)
    loaded = load_student(tmp_path)
    save_index(small_index(seed=1), tmp_path)
    assert answers(loaded) == answers(small_index())
    with pytest.raises(ValueError, match="read-only"):
        loaded.x_item.values[0] = 0


def test_without_a_map_files_may_change(tmp_path):
    told = save_index(small_index(), tmp_path)
    loaded = load_student(tmp_path, mmap=False)
    for entry in told["files"].values():
        (tmp_path / entry["file"]).write_bytes(b"\xff" * entry["bytes"])
    assert answers(loaded) == answers(small_index())


def test_what_happens_while_serving_is_not_saved(tmp_path):
    index = small_index()
    save_index(index, tmp_path / "a")
    index.add_interactions("ada", [-5])
    index.set_unavailable([2])
    index.add_filter("some", [2])
    before = fields_of(tmp_path / "a")["files"]
    assert save_index(index, tmp_path / "b")["files"] == before


# The folder


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match=r"a folder with other things in it \('thesis.tex'\)"):
        save_index(small_index(), tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"name": "My app"}', "does not have the format"),
        ("{", "is no JSON"),
        ('{"format": "pyg_kd.bundle", "version": 7}', "format version is 7"),
    ],
)
def test_a_folder_with_another_manifest_is_refused(tmp_path, text, message):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=f"it is not replaced.*{message}"):
        save_index(small_index(), tmp_path)
    assert contents(tmp_path) == {"manifest.json": text.encode()}


def test_a_file_is_refused(tmp_path):
    (tmp_path / "a").write_text("text")
    with pytest.raises(BundleError, match="is not a folder"):
        save_index(small_index(), tmp_path / "a")
    assert (tmp_path / "a").read_text() == "text"


def test_missing_folders_are_made_and_links_are_followed(tmp_path):
    save_index(small_index(), str(tmp_path / "a" / "b"))
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    save_index(small_index(seed=1), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert answers(load_student(tmp_path / "link")) == answers(small_index(seed=1))


def test_modes_are_the_usual_ones(tmp_path):
    before = os.umask(0o027)
    try:
        save_index(small_index(), tmp_path / "a")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "a").iterdir()} == {0o640}


# Failures and others that write or read at the same time


def test_the_manifest_is_replaced_when_all_files_are_on_the_disk(tmp_path, monkeypatch):
    save_index(small_index(), tmp_path)
    calls: list[str] = []
    replace, fsync, unlink = os.replace, os.fsync, Path.unlink
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("flush"), fsync(handle))[1])
    monkeypatch.setattr(
        os, "replace", lambda a, b: (calls.append(Path(b).name.split("-")[0]), replace(a, b))[1]
    )
    monkeypatch.setattr(
        Path, "unlink", lambda self: (calls.append(f"drop {self.name[:5]}"), unlink(self))[1]
    )
    save_index(small_index(seed=1), tmp_path)
    written = ["flush", "users", "flush", "flush", "items", "flush", "flush", "manifest.json"]
    assert calls[:9] == [*written, "flush"]
    assert sorted(calls[9:]) == ["drop items", "drop users"]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_full_disk_leaves_the_bundle_before_it(tmp_path, monkeypatch, first, writes):
    folder = tmp_path / "a"
    if not first:
        save_index(small_index(), folder)
    before = contents(folder) if not first else {}
    replace, done = os.replace, []

    def full(source: object, target: object) -> None:
        if len(done) == writes:
            raise OSError(28, "No space left on device")
        done.append(target)
        replace(source, target)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            save_index(small_index(seed=1), folder)
    assert len(done) == writes
    if first:
        assert not folder.exists()
    else:
        assert contents(folder) == before
    save_index(small_index(seed=1), folder)
    assert answers(load_student(folder)) == answers(small_index(seed=1))


def test_arrays_that_change_while_they_are_written(tmp_path, monkeypatch):
    index = small_index()
    save_index(small_index(seed=1), tmp_path)
    before = contents(tmp_path)
    to_bytes = writer.to_bytes

    def late(fields: dict) -> bytes:
        index.x_user.values[0, 0] += 1
        return to_bytes(fields)

    monkeypatch.setattr(writer, "to_bytes", late)
    with pytest.raises(BundleError, match=r"users-.* changed while it was written"):
        save_index(index, tmp_path)
    assert contents(tmp_path) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from pyg_kd.retrieval.bundle import save_index
from tests.retrieval.bundles import small_index
left = int(sys.argv[2])
def counted(call):
    def stopped(*args):
        global left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return call(*args)
    return stopped
os.replace, Path.unlink = counted(os.replace), counted(Path.unlink)
save_index(small_index(seed=1), sys.argv[1])
"""


def killed_writer(folder: Path, steps: int) -> None:
    """Replace a bundle in a process that is killed after so many files came or went."""
    run = [sys.executable, "-c", KILLED, str(folder), str(steps)]
    process = subprocess.run(run, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("steps", range(5))
def test_a_killed_writer_leaves_a_whole_bundle(tmp_path, steps):
    """Users, items and the manifest come, then old users and items go."""
    save_index(small_index(), tmp_path)
    killed_writer(tmp_path, steps)
    assert answers(load_student(tmp_path)) == answers(small_index(seed=int(steps > 2)))
    before = {*os.listdir(tmp_path)}
    save_index(small_index(seed=2), tmp_path)
    names = {entry["file"] for entry in fields_of(tmp_path)["files"].values()}
    assert {*os.listdir(tmp_path)} == {*names, "manifest.json"} != before
    assert answers(load_student(tmp_path)) == answers(small_index(seed=2))


def test_a_killed_first_writer(tmp_path):
    killed_writer(tmp_path / "a", 3)
    assert any(name.endswith(".tmp") for name in os.listdir(tmp_path / "a"))
    with pytest.raises(BundleError, match=r"no manifest\.json, so it is no bundle"):
        load_student(tmp_path / "a")
    save_index(small_index(), tmp_path / "a")
    assert len(os.listdir(tmp_path / "a")) == 1 + len(fields_of(tmp_path / "a")["files"])
    assert answers(load_student(tmp_path / "a")) == answers(small_index())


def test_readers_and_writers_at_the_same_time(tmp_path):
    wanted = {json.dumps(answers(small_index(seed=seed))) for seed in range(3)}
    save_index(small_index(), tmp_path)
    stop, found, broken = threading.Event(), [], []

    def read() -> None:
        while not stop.is_set():
            try:
                found.append(json.dumps(answers(load_student(tmp_path))))
            except Exception as error:
                broken.append(error)

    def write(seed: int) -> None:
        for _ in range(8):
            save_index(small_index(seed=seed), tmp_path)

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert broken == [] and {*found} <= wanted and found
    assert len(os.listdir(tmp_path)) == 1 + len(fields_of(tmp_path)["files"])


def test_a_reader_starts_again_when_the_bundle_was_replaced(tmp_path, monkeypatch):
    save_index(small_index(), tmp_path)
    read_file, left = reader._read_file, [3]

    def slow(*args: object, **options: object) -> memoryview:
        if left[0]:
            left[0] -= 1
            save_index(small_index(seed=left[0] + 5), tmp_path)
        return read_file(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(reader, "_read_file", slow)
    assert answers(load_student(tmp_path)) == answers(small_index(seed=5))
    left[0] = 10_000
    with pytest.raises(BundleError, match="replaced 20 times while it was read"):
        load_student(tmp_path)


def test_a_link_that_is_turned_to_another_bundle(tmp_path, monkeypatch):
    """The usual way to switch versions, while a reader is between manifest and files."""
    for seed, name in enumerate("ab"):
        save_index(small_index(seed=seed), tmp_path / name)
    (tmp_path / "current").symlink_to("a")
    read_file, turned = reader._read_file, []

    def turn(*args: object, **options: object) -> memoryview:
        if not turned:
            turned.append(True)
            (tmp_path / "next").symlink_to("b")
            os.replace(tmp_path / "next", tmp_path / "current")
            shutil.rmtree(tmp_path / "a")
        return read_file(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(reader, "_read_file", turn)
    assert answers(load_student(tmp_path / "current")) == answers(small_index(seed=1))


def test_a_bundle_that_is_removed_while_it_is_read(tmp_path, monkeypatch):
    save_index(small_index(), tmp_path / "a")
    read_file = reader._read_file

    def remove(*args: object, **options: object) -> memoryview:
        shutil.rmtree(tmp_path / "a", ignore_errors=True)
        return read_file(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(reader, "_read_file", remove)
    with pytest.raises(BundleError, match="there is no such folder"):
        load_student(tmp_path / "a")


def test_without_locks_nothing_of_others_is_removed(tmp_path, monkeypatch):
    import fcntl

    def unsupported(handle: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    save_index(small_index(), tmp_path)
    before = {*os.listdir(tmp_path)}
    save_index(small_index(seed=1), tmp_path)
    assert before < {*os.listdir(tmp_path)}
    assert answers(load_student(tmp_path)) == answers(small_index(seed=1))


# Copies


def test_a_copy_is_the_same_bundle(tmp_path):
    save_index(small_index("int4"), tmp_path / "a")
    save_index(small_index(seed=3), tmp_path / "b")
    assert copy_bundle(tmp_path / "a", tmp_path / "b") == fields_of(tmp_path / "a")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    copy_bundle(tmp_path / "a", tmp_path / "a")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_damaged_bundle_is_not_copied(tmp_path):
    told = save_index(small_index(), tmp_path / "a")
    save_index(small_index(seed=3), tmp_path / "b")
    before = contents(tmp_path / "b")
    with (tmp_path / "a" / told["files"]["items"]["file"]).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x42")
    for target in "bc":
        with pytest.raises(BundleError, match=re.escape(told["files"]["items"]["file"])):
            copy_bundle(tmp_path / "a", tmp_path / target)
    assert contents(tmp_path / "b") == before and not (tmp_path / "c").exists()


def test_ids_of_all_kinds_are_found_again(tmp_path):
    save_index(small_index(), tmp_path)
    loaded = load_student(tmp_path)
    assert loaded.users.find([*USERS, "nobody"]).tolist() == [*range(7), -1]
    assert loaded.items.find([-5, 51, 0]).tolist() == [0, 8, -1]
