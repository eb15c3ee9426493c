"""Reading the files of a bundle: mapped, checked, and of one version."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from pyg_kd.files import sha256_of
from pyg_kd.retrieval.bundle.manifest import LARGEST, MANIFEST, BundleError, from_bytes
from pyg_kd.retrieval.bundle.tensor_files import Array, decode

#: How often a reader starts again when the bundle was replaced while it read.
ATTEMPTS = 20


def read_bundle(
    path: str | os.PathLike[str], *, map_files: bool = True, verify: bool = True
) -> tuple[dict[str, Any], dict[str, dict[str, Array]]]:
    r"""The manifest and the arrays of a bundle.

    Args:
        path: The folder.
        map_files: Map the files instead of reading them.
        verify: Whether to compare the digest of every file.

    Returns:
        The fields of the manifest, and arrays by part that can't be written to.

    Raises:
        BundleError: If the folder holds no whole bundle, with the reason.
    """
    fields, files = read_files(path, map_files=map_files, verify=verify)
    return fields, decoded(path, fields, files)


def decoded(
    path: object, fields: Mapping[str, Any], files: Mapping[str, memoryview]
) -> dict[str, dict[str, Array]]:
    """The arrays in the files of a bundle, or :class:`BundleError`."""
    parts = {}
    for part, data in files.items():
        try:
            parts[part] = decode(data)
        except ValueError as error:
            raise BundleError(path, f"{fields['files'][part]['file']}: {error}") from error
    return parts


def read_files(
    path: str | os.PathLike[str], *, map_files: bool = True, verify: bool = True
) -> tuple[dict[str, Any], dict[str, memoryview]]:
    """As :func:`read_bundle`, but the bytes of each file instead of its arrays."""
    for _ in range(ATTEMPTS):
        folder, manifest = Path(os.path.realpath(path)), None
        try:
            manifest = _manifest(folder)
            fields = from_bytes(manifest)
            return fields, {
                part: _read_file(folder, told, map_files=map_files, verify=verify)
                for part, told in fields["files"].items()
            }
        except (ValueError, OSError) as error:
            if Path(os.path.realpath(path)) == folder and not _replaced(folder, manifest):
                raise BundleError(path, error) from error
    raise BundleError(path, f"it was replaced {ATTEMPTS} times while it was read")


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
    r"""The manifest of a bundle alone, checked in itself.

    Raises:
        BundleError: If there is none, or it is damaged, of a newer version, or absurd.
    """
    try:
        return from_bytes(_manifest(Path(os.path.realpath(path))))
    except (ValueError, OSError) as error:
        raise BundleError(path, error) from error


def _manifest(folder: Path) -> bytes:
    if not folder.is_dir():
        raise ValueError("there is no such folder")
    try:
        with open_file(folder, MANIFEST) as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise ValueError(f"it has no {MANIFEST}, so it is no bundle") from error
    if len(data) > LARGEST:
        raise ValueError(f"its manifest is larger than {LARGEST} bytes")
    return data


def _replaced(folder: Path, manifest: bytes | None) -> bool:
    """Whether a folder has another manifest by now; ``None`` stands for one that wasn't read."""
    try:
        return _manifest(folder) != manifest
    except (ValueError, OSError):
        return manifest is not None


def _read_file(
    folder: Path, entry: Mapping[str, Any], *, map_files: bool, verify: bool
) -> memoryview:
    with open_file(folder, entry["file"]) as file:
        check_file(file, entry, verify=verify)
        if map_files:  # the map outlives the handle, and the name
            return memoryview(mmap.mmap(file.fileno(), entry["bytes"], access=mmap.ACCESS_READ))
        data = np.empty(entry["bytes"], np.uint8)  # as large as the file is
        place = file.seek(0)
        while place < len(data) and (count := file.readinto(data[place:].data)):
            place += count
        if place < len(data):
            raise ValueError(f"{entry['file']} became shorter while it was read")
        return data.data.toreadonly()


def check_file(file: FileIO, entry: Mapping[str, Any], *, verify: bool = True) -> None:
    """Raise ``ValueError`` unless a file has the size and the digest that the manifest tells."""
    size = os.fstat(file.fileno()).st_size
    if size != entry["bytes"] or size == 0:
        raise ValueError(f"{entry['file']} has {size} bytes (expected {entry['bytes']})")
    if verify and sha256_of(file, size) != entry["sha256"]:
        raise ValueError(f"{entry['file']} was changed after it was written")


def open_file(folder: Path, name: str) -> FileIO:
    """Open a regular file of a folder; a link is followed where it stays inside."""
    target = os.path.realpath(folder / name)
    if os.path.commonpath([target, folder]) != str(folder):
        raise ValueError(f"{name} is a link that leaves the folder")
    # A pipe would block, and a link that was put there meanwhile would be followed.
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(target, os.O_RDONLY | flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError(f"{name} is not a regular file")
    return FileIO(handle, "rb")
