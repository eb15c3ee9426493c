r"""What happened since the bundle was made, in one file that all processes append to and follow.

The file begins with a line that names its format. Every other line is a record: the CRC-32 of its
JSON in eight hexadecimal digits, a space, and the JSON. A record is written as a whole under a lock
and is on the disk before anybody is told so. What a crash left behind the last line is ignored by
readers and cut off by the next writer.

The file holds ids of users and is readable by its owner alone.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

HEADER = b"pyg_kd events 1\n"

#: Bytes read at once.
BLOCK = 1 << 23


class Click(msgspec.Struct, tag="click", frozen=True):
    """A user did something with items, at a time in seconds since 1970."""

    user: int | str
    items: list[int | str]
    time: float


class Stock(msgspec.Struct, tag="stock", frozen=True):
    """Items are out of stock from now on, or available again."""

    items: list[int | str]
    available: bool


class Named(msgspec.Struct, tag="named", frozen=True):
    """A set of items has this name from now on."""

    name: str
    items: list[int | str]


Record = Click | Stock | Named

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


class NotALog(ValueError):
    """Another file has the name of the log."""


class EventLog:
    r"""Appends to a log, beside other threads and processes that do.

    The file is opened anew for every write. A descriptor that was kept would have to be given up
    when the file is moved away, and would share its lock with a process that was forked off.

    Args:
        path: The file, which is made if it is missing.

    Raises:
        OSError: If it can't be opened for writing.
        NotALog: If it is another file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     log, tail = EventLog(f"{folder}/log"), Tail(f"{folder}/log")
        ...     log.append([Stock([7], False)])
        ...     [*tail.read()]
        [[Stock(items=[7], available=False)]]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.append([])

    def append(self, records: Sequence[Record]) -> None:
        r"""Write records; they are on the disk, in the file of this name, when this returns.

        Without records, a missing file is begun and a torn end is cut off.

        Raises:
            OSError: If they can't be written; then none of them is in the file.
            NotALog: If another file has the name, which is left as it is.
        """
        data = b"".join(map(_line, records))
        while not self._append(data):
            pass

    def _append(self, data: bytes) -> bool:
        """Write to the file of this name, and tell whether it kept the name until then."""
        with self._locked() as handle:
            if not _is_named(handle, self.path):  # moved away while it was waited for
                return False
            _check_header(os.pread(handle, len(HEADER), 0), self.path)
            end = _sound_end(handle)
            if end < len(HEADER):
                end, data = 0, HEADER + data
            if os.fstat(handle).st_size != end:
                os.ftruncate(handle, end)
            if data:
                try:
                    _write(handle, data, end)
                    os.fsync(handle)
                except OSError:
                    os.ftruncate(handle, end)
                    raise
            return _is_named(handle, self.path)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file that has the name, locked."""
        import fcntl

        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                yield handle
            finally:  # a child that was forked meanwhile would keep the lock
                fcntl.flock(handle, fcntl.LOCK_UN)
        finally:
            os.close(handle)


class Tail:
    r"""Reads a log from its beginning, and then what is added to it. One thread at a time.

    Args:
        path: The file.

    Raises:
        OSError: If it can't be read.
        NotALog: If it is another file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        _check_header(os.pread(self._handle, len(HEADER), 0), self.path)
        self._place = len(HEADER)
        #: Lines that were damaged, and therefore skipped.
        self.damaged = 0

    def read(self) -> Iterator[list[Record]]:
        """The records that were not read yet, some at a time."""
        size = BLOCK
        while os.fstat(self._handle).st_size > self._place:
            data = os.pread(self._handle, size, self._place)
            end = data.rfind(b"\n") + 1
            if not end and len(data) == size:  # a line that is longer
                size *= 2
                continue
            if not end:  # still being written, or torn
                return
            self._place += end
            found = [_record(line) for line in data[: end - 1].split(b"\n")]
            records = [record for record in found if record is not None]
            self.damaged += len(found) - len(records)
            yield records

    def replaced(self) -> bool:
        """Whether the name is another file's or nobody's by now, or the file has been cut."""
        cut = os.fstat(self._handle).st_size < self._place > len(HEADER)
        return cut or not _is_named(self._handle, self.path)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            os.close(self._handle)


def _line(record: Record) -> bytes:
    text = _encoder.encode(record)
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _record(line: bytes) -> Record | None:
    """The record of a line, or ``None`` if it is damaged."""
    digits, _, text = line.partition(b" ")
    try:
        if len(digits) == 8 and int(digits, 16) == zlib.crc32(text):
            return _decoder.decode(text)
    except (ValueError, msgspec.MsgspecError):
        pass
    return None


def _sound_end(handle: int) -> int:
    """Where the last whole line ends."""
    stop = os.fstat(handle).st_size
    while stop:
        start = max(0, stop - BLOCK)
        place = os.pread(handle, stop - start, start).rfind(b"\n")
        if place >= 0:
            return start + place + 1
        stop = start
    return 0


def _write(handle: int, data: bytes, place: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, place)
        view, place = view[written:], place + written


def _is_named(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:  # it is gone, or its folder is
        return False


def _check_header(data: bytes, path: Any) -> None:
    if not HEADER.startswith(data):
        raise NotALog(f"{str(path)!r} is not a log of events")
