"""Writing files so that a reader, a crash or a full disk never meets half of one."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

#: Bytes hashed at once.
BLOCK = 1 << 20

#: Simultaneous writers of one target whose remains the next one finds.
WRITERS = 16


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    r"""Replace a file as a whole: hands out a temporary path, which becomes ``path`` at the end.

    The temporary file lies beside the target, in a folder of its own; its content is on the disk
    before it takes the target's name. If the block raises, the target stays as it was. A symlink
    is followed, not replaced. The mode is that of the file replaced; a new file gets the usual
    one, less the umask.

    A killed writer leaves its folder behind, and the next writer of the same target removes it:
    writers lock their folders, and a lock ends with its process. Writers of one target do not
    wait for each other; the last to finish wins.

    Args:
        path: The file to write. Folders that are missing are made.

    Raises:
        OSError: If ``path`` is a folder or a device, or cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with atomic_write(f"{folder}/notes.txt") as temporary:
        ...         _ = temporary.write_text("all or nothing")
        ...     Path(folder, "notes.txt").read_text()
        'all or nothing'
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(f"{str(path)!r} is not a regular file")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _scratch_folder(target) as folder:
        temporary = folder / target.name
        temporary.touch()
        mode = (target if target.exists() else temporary).stat().st_mode
        yield temporary
        temporary.chmod(stat.S_IMODE(mode))  # some writers put a private file in its place
        _flush(temporary)
        os.replace(temporary, target)
    _flush(target.parent)


def sha256_of(file: BinaryIO, size: int) -> str:
    """SHA-256 of the next ``size`` bytes of a file, or of all there are, in hexadecimal.

    Example:
        >>> from io import BytesIO
        >>> sha256_of(BytesIO(b"abcdef"), 3) == hashlib.sha256(b"abc").hexdigest()
        True
    """
    digest = hashlib.sha256()
    while size > 0 and (part := file.read(min(size, BLOCK))):
        digest.update(part)
        size -= len(part)
    return digest.hexdigest()


@contextmanager
def _scratch_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside ``target`` for one writer; those of killed writers are removed."""
    lock: int | None = None
    folder = _named(target, f"{os.getpid()}-{threading.get_ident()}")  # where nothing can be locked
    for number in range(WRITERS):
        candidate = _named(target, str(number))
        if lock is None and (lock := _lock(candidate)) is not None:
            folder = candidate
        elif candidate.exists() and (other := _lock(candidate)) is not None:
            _remove(candidate, other)
    folder.mkdir(exist_ok=True)
    try:
        for remains in folder.iterdir():
            remains.unlink()
        yield folder
    finally:
        _remove(folder, lock)


def _named(target: Path, writer: str) -> Path:
    return target.with_name(f".{target.name}.{writer}.tmp")


def _lock(folder: Path) -> int | None:
    """Make a folder and lock it: its handle, or ``None`` if another writer has it."""
    if sys.platform == "win32":
        return None
    import fcntl

    handle = None
    try:
        folder.mkdir(exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it may have removed it meanwhile.
        if os.path.samestat(os.fstat(handle), folder.stat()):
            return handle
    except BlockingIOError:
        pass
    except OSError:  # removed meanwhile, of another user, or of a file system without locks
        with suppress(OSError):
            folder.rmdir()
    if handle is not None:
        os.close(handle)
    return None


def _remove(folder: Path, lock: int | None) -> None:
    """Remove a folder and give its lock back."""
    shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        os.close(lock)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if sys.platform == "win32" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
