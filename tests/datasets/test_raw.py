from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pyg_kd.datasets import raw
from pyg_kd.datasets.raw import DATA_VARIABLE, RawFile, candidate_folders, download, locate, obtain

BODY = b"0 1 2\n1 2\n"
DIGEST = hashlib.sha256(BODY).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/absent":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path == "/drip":
            self._drip()
            return
        # A truncated body: more is announced than is sent.
        extra = 5 if self.path == "/truncated" else 0
        self.send_header("Content-Length", str(len(BODY) + extra))
        self.end_headers()
        self.wfile.write(BODY)

    def _drip(self) -> None:
        """A byte every now and then, until the other side hangs up."""
        self.end_headers()
        with suppress(OSError):
            for _ in range(200):
                self.wfile.write(b"1")
                time.sleep(0.05)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    httpd = HTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_download_puts_a_checked_file_in_place(server: str, tmp_path: Path) -> None:
    path = download(RawFile("sub/a.txt", f"{server}/good", DIGEST), tmp_path / "raw")
    assert path == tmp_path / "raw" / "sub" / "a.txt"
    assert path.read_bytes() == BODY
    assert _files(tmp_path) == ["raw/sub/a.txt"]


def test_download_reads_file_urls(tmp_path: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_bytes(BODY)
    path = download(RawFile("a.txt", source.as_uri(), DIGEST), tmp_path / "raw")
    assert path.read_bytes() == BODY


def test_download_takes_a_member_of_an_archive(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("folder/u.data", BODY)
        archive.writestr("../evil", b"x")
    source = tmp_path / "a.zip"
    source.write_bytes(stream.getvalue())
    file = RawFile("u.data", source.as_uri(), member="folder/u.data")
    assert download(file, tmp_path / "raw").read_bytes() == BODY
    assert _files(tmp_path) == ["a.zip", "raw/u.data"]


@pytest.mark.parametrize("page", ["truncated", "absent"])
def test_broken_transfer_leaves_nothing(server: str, tmp_path: Path, page: str) -> None:
    file = RawFile("a.txt", f"{server}/{page}", DIGEST)
    with pytest.raises(FileNotFoundError, match=r"Toy needs the raw files 'a.txt' in one of"):
        obtain("Toy", [file], tmp_path, "toy")
    assert _files(tmp_path) == []


def test_wrong_checksum_leaves_nothing(server: str, tmp_path: Path) -> None:
    file = RawFile("a.txt", f"{server}/good", "0" * 64)
    with pytest.raises(ValueError, match=f"'a.txt'.* must have the sha256 0+ .got {DIGEST}"):
        obtain("Toy", [file], tmp_path, "toy")
    assert _files(tmp_path) == []


def test_failed_write_leaves_nothing(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(FileNotFoundError, match="disk full"):
        obtain("Toy", [RawFile("a.txt", f"{server}/good")], tmp_path, "toy")
    assert _files(tmp_path) == []


def test_no_connection_says_where_to_put_files(tmp_path: Path) -> None:
    # Port 9 on the local machine: nobody listens, so the connection is refused at once.
    files = [RawFile(name, "http://127.0.0.1:9/x") for name in ("a.txt", "b.txt")]
    with pytest.raises(FileNotFoundError) as caught:
        obtain("Toy", files, tmp_path, "toy")
    message = str(caught.value)
    for part in ("'a.txt', 'b.txt'", str(tmp_path / "raw"), "$PYG_KD_DATA/toy", "download failed"):
        assert part in message


def test_file_without_an_address_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'a\.txt' has no public address"):
        obtain("Toy", [RawFile("a.txt")], tmp_path, "toy")


def test_without_root_nothing_is_downloaded() -> None:
    with pytest.raises(FileNotFoundError, match="no 'root' was given"):
        obtain("Toy", [RawFile("a.txt", "http://127.0.0.1:9/x")], None, "toy")


def test_folders_are_tried_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, shared = tmp_path / "root", tmp_path / "shared"
    monkeypatch.setenv(DATA_VARIABLE, str(shared))
    folders = candidate_folders(root, "toy")
    assert folders == [root / "raw", root, shared / "toy"]
    for folder in reversed(folders):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.txt").write_bytes(BODY)
        assert locate(["a.txt"], root, "toy") == folder
        # Half of the files are of no use: another folder's half may not fit them.
        assert locate(["a.txt", "b.txt"], root, "toy") is None


def test_present_files_are_used_without_a_network(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(BODY)
    file = RawFile("a.txt", "http://127.0.0.1:9/x", DIGEST)
    assert obtain("Toy", [file], tmp_path, "toy") == tmp_path
    assert _files(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:9/x"])
def test_present_files_are_compared_with_their_checksums(tmp_path: Path, url: str | None) -> None:
    content = bytearray(BODY)
    content[4] ^= 1
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    message = rf"a.txt' must have the sha256 {DIGEST} \(got {found}\): .*the one that Toy needs"
    with pytest.raises(ValueError, match=message):
        obtain("Toy", [RawFile("a.txt", url, DIGEST)], tmp_path, "toy")
    # A checksum of an archive says nothing about the file that was taken from it.
    obtain("Toy", [RawFile("a.txt", url, DIGEST, member="a.txt")], tmp_path, "toy")
    # Half of the files in place are checked as well.
    (tmp_path / "raw").mkdir()
    path.rename(tmp_path / "raw" / "a.txt")
    (tmp_path / "source").write_bytes(BODY)
    files = [RawFile("a.txt", url, DIGEST), RawFile("b.txt", (tmp_path / "source").as_uri())]
    with pytest.raises(ValueError, match=message):
        obtain("Toy", files, tmp_path, "toy")


def test_download_without_a_checksum_is_checked_by_its_content(server: str, tmp_path: Path) -> None:
    def check(path: Path) -> None:
        if path.read_bytes() != b"expected":
            raise ValueError(f"'{path}' holds something else")

    file = RawFile("a.txt", f"{server}/good", check=check)
    message = r"download of 'a.txt' from .*/good is not what it should be: 'a.txt' holds something"
    with pytest.raises(ValueError, match=message):
        obtain("Toy", [file], tmp_path, "toy")
    assert _files(tmp_path) == []


@pytest.mark.parametrize(
    ("archive", "message"),
    [(BODY, "not a zip file"), (None, "no item named 'b.txt'")],
)
def test_archive_without_the_file(tmp_path: Path, archive: bytes | None, message: str) -> None:
    source = tmp_path / "a.zip"
    with zipfile.ZipFile(source, "w") as content:
        content.writestr("a.txt", BODY)
    if archive is not None:
        source.write_bytes(archive)
    with pytest.raises(ValueError, match=f"(?i)is not what it should be: .*{message}"):
        download(RawFile("b.txt", source.as_uri(), member="b.txt"), tmp_path / "raw")
    assert _files(tmp_path) == ["a.zip"]


def test_downloads_have_a_limit_in_size(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw, "MAX_BYTES", len(BODY))
    download(RawFile("a.txt", f"{server}/good"), tmp_path)
    source = tmp_path / "a.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as content:
        content.writestr("zeros", bytes(10_000))
    monkeypatch.setattr(raw, "MAX_BYTES", 9_999)
    with pytest.raises(ValueError, match=r"'zeros' must have at most 9999 bytes \(got 10000\)"):
        download(RawFile("b.txt", source.as_uri(), member="zeros"), tmp_path)
    monkeypatch.setattr(raw, "MAX_BYTES", len(BODY) - 1)
    with pytest.raises(FileNotFoundError, match=f"delivers more than {len(BODY) - 1} bytes"):
        obtain("Toy", [RawFile("b.txt", f"{server}/good")], tmp_path, "toy")
    assert _files(tmp_path) == ["a.txt", "a.zip"]


def test_downloads_have_a_limit_in_time(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw, "MAX_SECONDS", 0.2)
    with pytest.raises(FileNotFoundError, match=r"/drip takes longer than 0.2 s"):
        obtain("Toy", [RawFile("a.txt", f"{server}/drip")], tmp_path, "toy")
    assert _files(tmp_path) == []


KILLED = """
import os, sys
from pathlib import Path
from pyg_kd.datasets.raw import RawFile, download
def check(path):
    os.kill(os.getpid(), 9)
download(RawFile("a.txt", sys.argv[1], check=check), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_remains_of_a_killed_download_are_removed_by_the_next(server: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, f"{server}/good", str(tmp_path)]
    assert subprocess.run(command, timeout=120).returncode == -9
    assert len(_files(tmp_path)) == 1
    assert not (tmp_path / "a.txt").exists()
    download(RawFile("a.txt", f"{server}/good", DIGEST), tmp_path)
    assert os.listdir(tmp_path) == ["a.txt"]


def test_only_missing_files_are_downloaded(server: str, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.txt").write_bytes(b"7")
    files = [RawFile("a.txt", f"{server}/absent"), RawFile("b.txt", f"{server}/good", DIGEST)]
    folder = obtain("Toy", files, tmp_path, "toy")
    assert (folder / "a.txt").read_bytes() == b"7"
    assert (folder / "b.txt").read_bytes() == BODY
