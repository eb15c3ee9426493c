"""Finding the raw files of a data set on disk, or else fetching them whole."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import time
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyg_kd.files import BLOCK, atomic_write, sha256_of

#: The environment variable that names a folder with raw data, one subfolder a data set.
DATA_VARIABLE = "PYG_KD_DATA"
#: A download is given up beyond this size, many times that of the largest file, and this time.
MAX_BYTES = 1 << 28
MAX_SECONDS = 600.0


@dataclass(frozen=True)
class RawFile:
    r"""A raw file and where it comes from.

    Args:
        name: Path of the file below the folder of raw files.
        url: Where it is downloaded from; :obj:`None` if it must be put there by hand.
        sha256: Hexadecimal digest of what ``url`` delivers, :obj:`None` if not known.
        member: If given, ``url`` delivers a zip archive and this is the file in it.
        check: Reads a download and raises :class:`ValueError` if it is not what it should be.
    """

    name: str
    url: str | None = None
    sha256: str | None = None
    member: str | None = None
    check: Callable[[Path], object] | None = None


def candidate_folders(root: str | os.PathLike[str] | None, folder: str) -> list[Path]:
    r"""The folders in which raw files are looked for, in order.

    Args:
        root: The root of the data set; ``root/raw`` and ``root`` are looked at.
        folder: The subfolder of the data set below the folder in ``PYG_KD_DATA``.
    """
    folders = []
    if root is not None:
        base = Path(root).expanduser()
        folders += [base / "raw", base]
    if os.environ.get(DATA_VARIABLE):
        folders.append(Path(os.environ[DATA_VARIABLE]).expanduser() / folder)
    return folders


def locate(names: Sequence[str], root: str | os.PathLike[str] | None, folder: str) -> Path | None:
    """The first candidate folder that holds all of ``names``, or :obj:`None`."""
    for path in candidate_folders(root, folder):
        if all((path / name).is_file() for name in names):
            return path
    return None


def obtain(
    owner: str, files: Sequence[RawFile], root: str | os.PathLike[str] | None, folder: str
) -> Path:
    r"""Return a folder that holds ``files``, downloading them to ``root/raw`` if need be.

    Files that are already there are compared with their checksums, as far as those are
    known, and only read.

    Args:
        owner: The name of the data set, for messages.
        files: The files needed, all in the same folder.
        root: The root of the data set, or :obj:`None` for no downloads.
        folder: The subfolder of the data set below the folder in ``PYG_KD_DATA``.

    Raises:
        FileNotFoundError: If the files are nowhere and cannot be downloaded.
        ValueError: If a file has the wrong checksum or content.
    """
    found = locate([file.name for file in files], root, folder)
    if found is not None:
        verify(owner, files, found)
        return found
    if root is None:
        raise FileNotFoundError(_where_to_put(owner, files, root, folder, "no 'root' was given"))
    target = Path(root).expanduser() / "raw"
    for file in files:
        if not (target / file.name).is_file():
            try:
                download(file, target)
            except OSError as error:
                reason = f"download failed: {error}"
                raise FileNotFoundError(
                    _where_to_put(owner, files, root, folder, reason)
                ) from error
    verify(owner, files, target)
    return target


def verify(owner: str, files: Sequence[RawFile], folder: Path) -> None:
    r"""Compare files in place with their checksums, as far as those are known.

    Raises:
        ValueError: If one differs, with its path and what to do.
    """
    for file in files:
        path = folder / file.name
        if file.sha256 is None or file.member is not None:
            continue
        with path.open("rb") as stream:
            digest = sha256_of(stream, path.stat().st_size)
        if digest != file.sha256:
            again = "is downloaded again to 'root/raw'" if file.url else "has to be put there"
            raise ValueError(
                f"'{path}' must have the sha256 {file.sha256} (got {digest}): it is damaged or "
                f"another version. Delete it, and the one that {owner} needs {again}"
            )


def download(file: RawFile, folder: Path) -> Path:
    r"""Fetch one file, check it, and only then put it in place, all or nothing.

    What a killed download left behind, the next one removes.

    Raises:
        OSError: If there is no URL, no connection, the transfer broke off, or it exceeds
            :data:`MAX_BYTES` or :data:`MAX_SECONDS`.
        ValueError: If the checksum is wrong, or without one the content.
    """
    if file.url is None:
        raise FileNotFoundError(f"'{file.name}' has no public address")
    path = folder / file.name
    with atomic_write(path) as temporary:
        fetched = temporary if file.member is None else temporary.with_name("archive.zip")
        digest = _fetch(file.url, fetched)
        source = f"the download of '{file.name}' from {file.url}"
        if file.sha256 not in (None, digest):
            raise ValueError(f"{source} must have the sha256 {file.sha256} (got {digest})")
        try:
            if file.member is not None:
                _extract(fetched, file.member, temporary)
            if file.check is not None:
                file.check(temporary)
        except (ValueError, KeyError, zipfile.BadZipFile) as error:
            reason = str(error).replace(str(temporary), file.name)
            raise ValueError(f"{source} is not what it should be: {reason}") from error
    return path


def _fetch(url: str, path: Path) -> str:
    """Write what a URL delivers into a file, and return its SHA-256."""
    digest = hashlib.sha256()
    received = 0
    deadline = time.monotonic() + MAX_SECONDS
    try:
        with urllib.request.urlopen(url, timeout=60) as response, path.open("wb") as stream:
            expected = response.headers.get("Content-Length") or ""
            while part := response.read1(BLOCK):
                received += len(part)
                if received > MAX_BYTES:
                    raise OSError(f"{url} delivers more than {MAX_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{url} takes longer than {MAX_SECONDS} s")
                digest.update(part)
                stream.write(part)
    except http.client.HTTPException as error:  # among others, a chunk that is cut short
        raise ConnectionError(f"{url} broke off: {error!r}") from error
    if expected.isdigit() and received < int(expected):
        raise ConnectionError(f"{url} broke off after {received} of {expected} bytes")
    return digest.hexdigest()


def _extract(archive: Path, member: str, path: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        size = content.getinfo(member).file_size
        if size > MAX_BYTES:
            raise ValueError(f"'{member}' must have at most {MAX_BYTES} bytes (got {size})")
        with content.open(member) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, BLOCK)


def _where_to_put(
    owner: str,
    files: Sequence[RawFile],
    root: str | os.PathLike[str] | None,
    folder: str,
    reason: str,
) -> str:
    names = ", ".join(f"'{file.name}'" for file in files)
    places = [str(path) for path in candidate_folders(root, folder)]
    if not os.environ.get(DATA_VARIABLE):
        places.append(f"${DATA_VARIABLE}/{folder}")
    return f"{owner} needs the raw files {names} in one of {', '.join(places)} ({reason})"
