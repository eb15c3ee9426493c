"""Finding the raw files of a data set on disk, or else fetching them whole."""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import tempfile
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: The environment variable that names a folder with raw data, one subfolder a data set.
DATA_VARIABLE = "PYG_KD_DATA"


@dataclass(frozen=True)
class RawFile:
    r"""A raw file and where it comes from.

    Args:
        name: Path of the file below the folder of raw files.
        url: Where it is downloaded from; :obj:`None` if it must be put there by hand.
        sha256: Hexadecimal digest of what ``url`` delivers, :obj:`None` if not known.
        member: If given, ``url`` delivers a zip archive and this is the file in it.
    """

    name: str
    url: str | None = None
    sha256: str | None = None
    member: str | None = None


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

    Files that are already there are used as they are; their folder is only read.

    Args:
        owner: The name of the data set, for messages.
        files: The files needed, all in the same folder.
        root: The root of the data set, or :obj:`None` for no downloads.
        folder: The subfolder of the data set below the folder in ``PYG_KD_DATA``.

    Raises:
        FileNotFoundError: If the files are nowhere and cannot be downloaded.
        ValueError: If a downloaded file has the wrong checksum.
    """
    found = locate([file.name for file in files], root, folder)
    if found is not None:
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
    return target


def download(file: RawFile, folder: Path) -> Path:
    r"""Fetch one file, check it, and only then put it in place, all or nothing.

    Raises:
        OSError: If there is no URL, no connection, or the transfer broke off.
        ValueError: If the checksum is wrong.
    """
    if file.url is None:
        raise FileNotFoundError(f"'{file.name}' has no public address")
    payload = _fetch(file.url)
    digest = hashlib.sha256(payload).hexdigest()
    if file.sha256 is not None and digest != file.sha256:
        raise ValueError(
            f"the download of '{file.name}' from {file.url} must have the sha256 "
            f"{file.sha256} (got {digest})"
        )
    if file.member is not None:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            payload = archive.read(file.member)
    path = folder / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_atomically(path, payload)
    return path


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            payload: bytes = response.read()
    except http.client.HTTPException as error:  # among others, a body that is cut short
        raise ConnectionError(f"{url} broke off: {error!r}") from error
    return payload


def _write_atomically(path: Path, payload: bytes) -> None:
    # Same folder as the target: os.replace is atomic only within one file system.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(payload)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


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
