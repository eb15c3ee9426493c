"""Writing the folder of a bundle: files named by their content, and a manifest replaced last.

A reader sees the whole of one version, whoever writes meanwhile: files of the new version get new
names, then the manifest changes at once, then files that it no longer names are removed. What a
reader has mapped by then stays readable.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyg_kd.files import BLOCK, atomic_write
from pyg_kd.retrieval.bundle.manifest import (
    FILE,
    MANIFEST,
    BundleError,
    file_name,
    from_bytes,
    to_bytes,
)
from pyg_kd.retrieval.bundle.reader import check_file, decoded, open_file, read_files, read_manifest
from pyg_kd.retrieval.bundle.tensor_files import Array, encode

#: What each file of a bundle holds: arrays by name, by part.
Parts = Mapping[str, Mapping[str, Array]]

#: What a killed writer leaves; see :func:`~pyg_kd.files.atomic_write`.
REMAINS = re.compile(rf"\.({re.escape(MANIFEST)}|{FILE.pattern})\.[0-9-]+\.tmp")


def write_bundle(
    path: str | os.PathLike[str], fields: dict[str, Any], parts: Parts
) -> dict[str, Any]:
    r"""Write a bundle, or replace one as a whole.

    Args:
        path: The folder. It is made, or is empty, or holds a bundle.
        fields: Fields of the manifest, without ``files``.
        parts: The arrays of each file.

    Returns:
        The manifest.

    Raises:
        BundleError: If there is something else at ``path``, or arrays change while they are
            written.
        OSError: If files cannot be written. A bundle that was there stays.
    """
    files = {part: _entry(part, arrays) for part, arrays in parts.items()}
    manifest = to_bytes({**fields, "files": files})
    with _writing(path) as folder:
        for part, arrays in parts.items():
            _write_file(folder, files[part], encode(arrays))
        with atomic_write(folder / MANIFEST) as temporary:
            temporary.write_bytes(manifest)
    return from_bytes(manifest)


def copy_bundle(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> dict[str, Any]:
    r"""Copy a bundle, or replace another one by it, once every file has passed its digest.

    Args:
        source: The bundle to copy.
        path: As in :func:`write_bundle`.

    Returns:
        The manifest.

    Raises:
        BundleError: If ``source`` is no whole bundle, or there is something else at ``path``.
    """
    fields, files = read_files(source)
    decoded(source, fields, files)  # raises
    told = {name: fields[name] for name in fields if name not in ("format", "version", "sha256")}
    with _writing(path) as folder:
        for part, data in files.items():
            blocks = (data[start : start + BLOCK] for start in range(0, len(data), BLOCK))
            _write_file(folder, fields["files"][part], blocks)
        with atomic_write(folder / MANIFEST) as temporary:
            temporary.write_bytes(to_bytes(told))
    return fields


def _entry(part: str, arrays: Mapping[str, Array]) -> dict[str, Any]:
    """What the manifest tells of a file."""
    digest, size = hashlib.sha256(), 0
    for block in encode(arrays):
        digest.update(block)
        size += len(block)
    sha256 = digest.hexdigest()
    return {"file": file_name(part, sha256), "sha256": sha256, "bytes": size}


def _write_file(
    folder: Path, entry: Mapping[str, Any], blocks: Iterable[bytes | memoryview]
) -> None:
    """Write a file unless it is there already, as most are when a student was trained anew."""
    with suppress(ValueError, OSError), open_file(folder, entry["file"]) as file:
        check_file(file, entry)
        return
    digest = hashlib.sha256()
    with atomic_write(folder / entry["file"]) as temporary:
        with temporary.open("wb") as file:
            for block in blocks:
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != entry["sha256"]:
            raise BundleError(folder, f"{entry['file']} changed while it was written")


@contextmanager
def _writing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """The folder of a bundle, for one writer at a time; what no manifest names is removed after."""
    folder = Path(os.path.realpath(path))
    made = not folder.exists()
    if not made and not folder.is_dir():
        raise BundleError(path, "it is not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder) as alone:
        _refuse_other_folders(folder, path)
        try:
            yield folder
        finally:
            if alone:
                _remove_stale(folder)
            if made:
                with suppress(OSError):  # only if nothing was written
                    folder.rmdir()


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Wait for other writers, and keep them out; false where folders can't be locked."""
    if sys.platform == "win32":
        yield False
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            alone = True
        except OSError:
            alone = False
        yield alone
    finally:
        os.close(handle)


def _refuse_other_folders(folder: Path, path: object) -> None:
    if (folder / MANIFEST).exists():
        try:
            read_manifest(folder)
        except BundleError as error:
            raise BundleError(
                path, f"it is not replaced, since it's no sound bundle ({error})"
            ) from error
        return
    foreign = [
        n for n in sorted(os.listdir(folder)) if not (FILE.fullmatch(n) or REMAINS.fullmatch(n))
    ]
    if foreign:
        raise BundleError(path, f"it is a folder with other things in it ({foreign[0]!r:.80})")


def _remove_stale(folder: Path) -> None:
    """Remove files that the manifest doesn't name, and remains; files of others stay."""
    named = {MANIFEST}
    if (folder / MANIFEST).exists():
        named |= {entry["file"] for entry in read_manifest(folder)["files"].values()}
    for entry in list(folder.iterdir()):
        with suppress(OSError):
            if REMAINS.fullmatch(entry.name):
                shutil.rmtree(entry)
            elif FILE.fullmatch(entry.name) and entry.name not in named:
                entry.unlink()
