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


class EventLog:
    r"""Appends to a log, beside other processes that do.

    Args:
        path: The file, which is made if it is missing.

    Raises:
        OSError: If it can't be opened for writing.
        ValueError: If it is another file.

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
        self._handle = self._open()
        self.append([])

    def append(self, records: Sequence[Record]) -> None:
        r"""Write records; they are on the disk when this returns.

        Raises:
            OSError: If they can't be written; then none of them is.
        """
        data = b"".join(map(_line, records))
        with self._locked() as handle:
            end = _sound_end(handle)
            if end < len(HEADER):
                end, data = 0, HEADER + data
            if os.fstat(handle).st_size != end:
                os.ftruncate(handle, end)
            if not data:
                return
            try:
                _write(handle, data, end)
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, end)
                raise

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file that has the name now, locked."""
        import fcntl

        while True:
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            try:
                if _is_named(self._handle, self.path):
                    yield self._handle
                    return
            finally:
                fcntl.flock(self._handle, fcntl.LOCK_UN)
            os.close(self._handle)  # it was moved away
            self._handle = self._open()

    def _open(self) -> int:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _check_header(os.pread(handle, len(HEADER), 0), self.path)
        return handle

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


class Tail:
    r"""Reads a log from its beginning, and then what is added to it. One thread at a time.

    Args:
        path: The file.

    Raises:
        OSError: If it can't be read.
        ValueError: If it is another file.
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
        """Whether another file has the name by now, or the file has been cut."""
        shorter = os.fstat(self._handle).st_size < self._place
        return shorter or not _is_named(self._handle, self.path)

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
    except FileNotFoundError:
        return False


def _check_header(data: bytes, path: Any) -> None:
    if not HEADER.startswith(data):
        raise ValueError(f"{str(path)!r} is not a log of events")
