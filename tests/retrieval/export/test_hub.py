"""Bundles that travel: the hub is replaced by a local one, which keeps commits in folders."""

from __future__ import annotations

import fnmatch
import inspect
import shutil
from pathlib import Path
from typing import Any

import pytest

from pyg_kd.retrieval import BundleError, save_index
from pyg_kd.retrieval.bundle import load_student
from pyg_kd.retrieval.export import pull_bundle, push_bundle
from tests.retrieval.bundles import answers, contents, fields_of, small_index

huggingface_hub = pytest.importorskip("huggingface_hub")


class LocalHub:
    """The calls of ``huggingface_hub.HfApi`` that are used, over a folder."""

    root: Path

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> None:
        self.create_branch(repo_id, branch="main", exist_ok=exist_ok)

    def create_branch(self, repo_id: str, *, branch: str, exist_ok: bool) -> None:
        (self.root / repo_id / branch).mkdir(parents=True, exist_ok=exist_ok)

    def list_repo_files(self, repo_id: str, *, revision: str | None) -> list[str]:
        return [path.name for path in (self.root / repo_id / (revision or "main")).iterdir()]

    def create_commit(
        self, repo_id: str, operations: list[Any], *, commit_message: str, revision: str | None
    ) -> None:
        target = self.root / repo_id / (revision or "main")
        for operation in operations:
            if isinstance(operation, huggingface_hub.CommitOperationDelete):
                (target / operation.path_in_repo).unlink()
            else:
                shutil.copy(operation.path_or_fileobj, target / operation.path_in_repo)

    def snapshot_download(
        self, repo_id: str, *, revision: str | None, local_dir: str, allow_patterns: list[str]
    ) -> str:
        for path in (self.root / repo_id / (revision or "main")).iterdir():
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copy(path, local_dir)
        (Path(local_dir) / ".cache" / "huggingface").mkdir(parents=True)  # as the library does
        return local_dir


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    LocalHub.root = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub, "HfApi", LocalHub)
    return tmp_path / "hub"


@pytest.mark.parametrize(
    "name",
    ["create_repo", "create_branch", "list_repo_files", "create_commit", "snapshot_download"],
)
def test_the_library_has_these_calls(name):
    theirs = inspect.signature(getattr(huggingface_hub.HfApi, name)).parameters
    ours = inspect.signature(getattr(LocalHub, name)).parameters
    assert {*ours} <= {*theirs}
    required = {
        n for n, p in theirs.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    }
    assert required <= {*ours}


def test_push_and_pull(tmp_path, hub):
    save_index(small_index("int8"), tmp_path / "a")
    sha256 = push_bundle(tmp_path / "a", "ours/student")
    told = pull_bundle("ours/student", tmp_path / "b", sha256=sha256)
    assert told == fields_of(tmp_path / "a") and told["sha256"] == sha256
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert answers(load_student(tmp_path / "b")) == answers(small_index("int8"))


def test_a_newer_student_replaces_the_one_before(tmp_path, hub):
    (hub / "ours" / "student" / "main").mkdir(parents=True)
    others = ["README.md", "model.safetensors", "items-of-mine.safetensors"]
    for name in others:
        (hub / "ours" / "student" / "main" / name).write_text("something else")
    for seed in (0, 1):
        save_index(small_index(seed=seed), tmp_path / "a")
        push_bundle(tmp_path / "a", "ours/student")
        pull_bundle("ours/student", tmp_path / "b")
        assert contents(tmp_path / "a") == contents(tmp_path / "b")
    names = {path.name for path in (hub / "ours" / "student" / "main").iterdir()}
    assert names == {*contents(tmp_path / "a"), *others}


def test_revisions(tmp_path, hub):
    for seed, revision in ((0, "v1"), (1, "v2")):
        save_index(small_index(seed=seed), tmp_path / "a")
        push_bundle(tmp_path / "a", "student", revision=revision)
    pull_bundle("student", tmp_path / "b", revision="v1")
    assert answers(load_student(tmp_path / "b")) == answers(small_index())


@pytest.mark.parametrize("damage", ["flip", "missing", "manifest", "html"])
def test_damaged_downloads_change_nothing(tmp_path, hub, damage):
    save_index(small_index(), tmp_path / "a")
    save_index(small_index(seed=1), tmp_path / "b")
    before = contents(tmp_path / "b")
    push_bundle(tmp_path / "a", "ours/student")
    stored = hub / "ours" / "student" / "main"
    file = stored / fields_of(stored)["files"]["items"]["file"]
    if damage == "flip":
        data = bytearray(file.read_bytes())
        data[-3] ^= 4
        file.write_bytes(data)
    elif damage == "missing":
        file.unlink()
    elif damage == "manifest":
        text = (stored / "manifest.json").read_text()
        (stored / "manifest.json").write_text(text.replace('"rows": 9', '"rows": 8'))
    else:
        (stored / "manifest.json").write_text("<html>Sign in</html>")
    for target in "bc":
        with pytest.raises(BundleError, match=r"^'ours/student': "):
            pull_bundle("ours/student", tmp_path / target)
    assert contents(tmp_path / "b") == before and not (tmp_path / "c").exists()


def test_another_bundle_than_wanted(tmp_path, hub):
    save_index(small_index(), tmp_path / "a")
    push_bundle(tmp_path / "a", "ours/student")
    with pytest.raises(BundleError, match=f"'ours/student': .* not {'0' * 64} as wanted"):
        pull_bundle("ours/student", tmp_path / "b", sha256="0" * 64)
    assert not (tmp_path / "b").exists()


def test_a_folder_with_other_things_is_not_replaced(tmp_path, hub):
    save_index(small_index(), tmp_path / "a")
    push_bundle(tmp_path / "a", "ours/student")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"b': it is a folder with other things in it"):
        pull_bundle("ours/student", tmp_path / "b")
    assert contents(tmp_path / "b") == {"notes.txt": b"mine"}


def test_a_damaged_bundle_is_not_pushed(tmp_path, hub):
    told = save_index(small_index(), tmp_path / "a")
    (tmp_path / "a" / told["files"]["seen"]["file"]).write_bytes(b"short")
    with pytest.raises(BundleError, match=r"seen-.* has 5 bytes"):
        push_bundle(tmp_path / "a", "ours/student")
    assert not hub.exists()


# Folders in place of the hub


def test_folders_need_no_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", None)
    monkeypatch.chdir(tmp_path)
    save_index(small_index(), "made")
    for store in (tmp_path / "x", Path("y"), "./z", str(tmp_path / "w" / "deep")):
        sha256 = push_bundle("made", store)
        assert pull_bundle(store, "served", sha256=sha256)["sha256"] == sha256
        assert contents(Path(store)) == contents(Path("made")) == contents(Path("served"))


def test_home_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_index(small_index(), tmp_path / "made")
    push_bundle(tmp_path / "made", "~/store")
    assert contents(tmp_path / "store") == contents(tmp_path / "made")


@pytest.mark.parametrize("name", ["a/b/c", "", "a b", "https://hub/x", "a/../b", "é/x"])
def test_names_that_are_none(tmp_path, name: Any):
    save_index(small_index(), tmp_path / "a")
    with pytest.raises(ValueError, match="'repo_id' must be 'owner/name' or a folder"):
        push_bundle(tmp_path / "a", name)
    with pytest.raises(ValueError, match="'repo_id' must be 'owner/name' or a folder"):
        pull_bundle(name, tmp_path / "b")
