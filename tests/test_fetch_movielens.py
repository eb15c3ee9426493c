"""The wheel that brings MovieLens-100K is not opened before it is known to be the right one."""

from __future__ import annotations

import hashlib
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "examples" / "fetch_movielens.py"
BODY = b"user_id:token\titem_id:token\n1\t2\n"
FILMS = b"item_id:token\tmovie_title:token_seq\n2\tAlien\n"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The script's names; what pip would download is ``tmp_path/source.whl``."""
    names = runpy.run_path(str(SCRIPT))
    with zipfile.ZipFile(tmp_path / "source.whl", "w") as archive:
        for member, body in zip(names["MEMBERS"], (BODY, FILMS), strict=True):
            archive.writestr(member, body)
        archive.writestr("recbole/__init__.py", "")

    def pip(command: list[str], check: bool) -> None:
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(command)
        requirement = Path(command[command.index("-r") + 1]).read_text()
        wanted = names["main"].__globals__["WHEEL_SHA256"]
        assert requirement == f"recbole==1.2.1 --hash=sha256:{wanted}\n"
        folder = Path(command[command.index("-d") + 1])
        (folder / "a.whl").write_bytes((tmp_path / "source.whl").read_bytes())

    monkeypatch.setattr(subprocess, "run", pip)
    return names["main"].__globals__


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _expect(script: dict[str, Any], tmp_path: Path) -> None:
    """Make the checksums those of the made-up files."""
    script["WHEEL_SHA256"] = _digest((tmp_path / "source.whl").read_bytes())
    for member, body in zip(script["MEMBERS"], (BODY, FILMS), strict=True):
        script["MEMBERS"][member] = _digest(body)


def test_two_files_are_taken_out(script: dict[str, Any], tmp_path: Path) -> None:
    _expect(script, tmp_path)
    folder = tmp_path / "out"
    script["main"](folder)
    assert _files(folder) == ["ml-100k.inter", "ml-100k.item"]
    assert (folder / "ml-100k.inter").read_bytes() == BODY
    assert (folder / "ml-100k.item").read_bytes() == FILMS
    (tmp_path / "source.whl").unlink()  # not fetched again
    script["main"](folder)
    (folder / "ml-100k.inter").write_bytes(BODY[:-2])
    with pytest.raises(SystemExit, match=r"ml-100k.inter' must have the sha256 .*: delete it"):
        script["main"](folder)


def test_only_what_is_missing_is_fetched(script: dict[str, Any], tmp_path: Path) -> None:
    _expect(script, tmp_path)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "ml-100k.inter").write_bytes(BODY)  # from before titles were fetched
    before = (folder / "ml-100k.inter").stat()
    script["main"](folder)
    assert _files(folder) == ["ml-100k.inter", "ml-100k.item"]
    assert (folder / "ml-100k.inter").stat().st_ino == before.st_ino


def test_another_wheel_is_not_opened(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("opened"))
    with pytest.raises(SystemExit, match=r"a.whl' must have the sha256 9c9948.* \(got"):
        script["main"](tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_file_is_not_kept(script: dict[str, Any], tmp_path: Path) -> None:
    script["WHEEL_SHA256"] = _digest((tmp_path / "source.whl").read_bytes())
    with pytest.raises(SystemExit, match=r"ml-100k.inter' must have the sha256 4edb74"):
        script["main"](tmp_path / "out")
    assert _files(tmp_path / "out") == []
