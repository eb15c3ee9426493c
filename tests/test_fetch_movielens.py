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


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The script's names; what pip would download is ``tmp_path/source.whl``."""
    names = runpy.run_path(str(SCRIPT))
    with zipfile.ZipFile(tmp_path / "source.whl", "w") as archive:
        archive.writestr(names["MEMBER"], BODY)
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
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def test_one_file_is_taken_out(script: dict[str, Any], tmp_path: Path) -> None:
    script["WHEEL_SHA256"] = _digest((tmp_path / "source.whl").read_bytes())
    script["MEMBER_SHA256"] = _digest(BODY)
    folder = tmp_path / "out"
    script["main"](folder)
    assert _files(folder) == ["ml-100k.inter"]
    assert (folder / "ml-100k.inter").read_bytes() == BODY
    (tmp_path / "source.whl").unlink()  # not fetched again
    script["main"](folder)
    (folder / "ml-100k.inter").write_bytes(BODY[:-2])
    with pytest.raises(SystemExit, match=r"ml-100k.inter' must have the sha256 .*: delete it"):
        script["main"](folder)


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
