"""Original ids of users or items, integers or strings, and the rows they stand for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]

Kind = Literal["position", "integer", "text"]

#: Arrays by which a file holds the ids of each kind.
ARRAYS: dict[str, set[str]] = {
    "position": set(),
    "integer": {"values", "order"},
    "text": {"bytes", "offsets", "hashes", "order"},
}

#: Texts that are decoded one by one; for more, all are decoded once.
FEW = 1024


class UnknownId(ValueError):
    """An id that an index does not know."""


class Ids:
    r"""A two-way map between original ids and rows ``0..n - 1``.

    It consists of flat arrays, which processes can share by mapping a file: integers in the order
    of their rows with a sorted order beside them, strings as UTF-8 with 64-bit hashes.

    Args:
        values: The id of each row: integers ``[n]``, or strings. If omitted, ids are the rows.
        size: How many rows there are; needed only without ``values``.
        name: What they are ids of, for messages.

    Raises:
        TypeError: If the ids are neither all integers nor all strings.
        ValueError: If an id is repeated, or both or neither of ``values`` and ``size`` are given.

    Example:
        >>> ids = Ids(["anna", "bob"], name="user")
        >>> ids.find(["bob", "eve"]).tolist(), ids.take(np.array([[1, -1]])).tolist()
        ([1, -1], [['bob', None]])
    """

    def __init__(
        self, values: npt.ArrayLike | None = None, size: int | None = None, name: str = "item"
    ) -> None:
        if (values is None) == (size is None):
            raise ValueError("either 'values' or 'size' must be given")
        self.name = name
        self.kind: Kind = "position"
        self._arrays: dict[str, Array] = {}
        self._decoded: Array | None = None
        if values is None:
            self._size = int(size or 0)
            return
        kind, array = _as_ids(values, name)
        self._size = len(array)
        if kind == "integer":
            self.kind, self._arrays = "integer", _integers(array, name)
        else:
            self.kind, self._arrays = "text", _texts(array.tolist(), name)

    def __len__(self) -> int:
        return self._size

    def find(self, values: Any) -> Rows:
        """The rows of ids, int64 ``[n]``, -1 where an id is unknown or of another type.

        Raises:
            ValueError: If the ids are not one-dimensional.
        """
        wanted = listed(values)
        if self.kind == "text":
            return np.fromiter(map(self._find_text, wanted), np.int64, len(wanted))
        numbers = _integers_of(wanted)
        if self.kind == "position":
            return np.where((numbers >= 0) & (numbers < self._size), numbers, -1)
        if self._size == 0:
            return np.full(len(numbers), -1, np.int64)
        known, order = self._arrays["values"], self._arrays["order"]
        place = np.searchsorted(known, numbers, sorter=order if len(order) else None)
        place = np.minimum(place, self._size - 1)
        rows = order[place] if len(order) else place
        return np.where((known[rows] == numbers) & _are_integers(wanted), rows, -1)

    def rows(self, values: Any, argument: str) -> Rows:
        """As :meth:`find`, but an unknown id raises :class:`UnknownId`, which names it."""
        rows = self.find(values)
        if len(rows) and rows.min() < 0:
            raise self.unknown(listed(values)[int(np.argmin(rows))], argument)
        return rows

    def unknown(self, value: object, argument: str) -> UnknownId:
        """The error that tells of an unknown id."""
        kinds = {"text": "strings", "integer": "integers"}
        kind = kinds.get(self.kind, f"rows 0..{self._size - 1}")
        return UnknownId(
            f"{argument!r} must be known {self.name} ids, which are {kind} (got {value!r:.80})"
        )

    def take(self, rows: Array) -> Array:
        """The ids of rows, in the same shape: int64 with -1 for a row of -1, or strings and None.

        Strings come in an array of objects.
        """
        if self.kind == "position" or self._size == 0:
            empty = self._size == 0 and self.kind == "text"
            return np.full(rows.shape, None, object) if empty else rows.astype(np.int64, copy=False)
        if self.kind == "integer":
            return np.where(rows < 0, -1, self._arrays["values"][rows])
        flat = rows.ravel()
        if self._decoded is None and flat.size <= FEW:
            found = np.empty(flat.size, object)
            found[:] = [self._text(int(row)) if row >= 0 else None for row in flat]
            return found.reshape(rows.shape)
        if self._decoded is None:
            decoded = np.empty(self._size + 1, object)  # the last one is for rows of -1
            decoded[:-1] = [self._text(row) for row in range(self._size)]
            self._decoded = decoded
        return self._decoded[rows]

    def arrays(self) -> dict[str, Array]:
        """What a file holds; :meth:`from_arrays` reads it."""
        return dict(self._arrays)

    @staticmethod
    def from_arrays(kind: str, arrays: Mapping[str, Array], size: int, name: str = "item") -> Ids:
        """The ids of the arrays that :meth:`arrays` returned, which are not copied.

        Raises:
            ValueError: If arrays are missing, of other dtypes or sizes, or inconsistent.
        """
        if kind not in ARRAYS or arrays.keys() != ARRAYS[kind]:
            raise ValueError(
                f"{name} ids of kind {kind!r} have other arrays (got {sorted(arrays)})"
            )
        ids = Ids(size=size, name=name)
        if kind == "position":
            return ids
        _check_arrays(kind, arrays, size, name)
        ids.kind, ids._arrays = ("integer" if kind == "integer" else "text"), dict(arrays)
        return ids

    def _find_text(self, value: object) -> int:
        if not isinstance(value, str):
            return -1
        hashes, key = self._arrays["hashes"], _hash(value)
        place = int(np.searchsorted(hashes, key))
        while place < self._size and hashes[place] == key:  # different texts may have one hash
            row = int(self._arrays["order"][place])
            if self._text(row) == value:
                return row
            place += 1
        return -1

    def _text(self, row: int) -> str:
        offsets = self._arrays["offsets"]
        return self._arrays["bytes"][offsets[row] : offsets[row + 1]].tobytes().decode()

    def __repr__(self) -> str:
        return f"Ids({len(self)} {self.name}s, {self.kind})"


def listed(values: Any) -> Sequence[Any] | Array:
    """Ids one after the other, of one id too; arrays of numbers stay arrays."""
    if isinstance(values, (str, bytes)) or not isinstance(values, (Iterable, np.ndarray)):
        return [values]
    if not isinstance(values, np.ndarray):
        return values if isinstance(values, (list, tuple)) else list(values)
    if values.ndim != 1:
        raise ValueError(f"ids must be one-dimensional (got shape {list(values.shape)})")
    return values.tolist() if values.dtype.kind in "OUT" else values


def _is_integer(value: object) -> bool:
    return (
        isinstance(value, (int, np.integer))
        and not isinstance(value, bool)
        and -(2**63) <= int(value) < 2**63
    )


def _are_integers(values: Sequence[Any] | Array) -> Array:
    """Which of the ids are integers of 64 bits, bool ``[n]``."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind == "u":
            return values <= np.iinfo(np.int64).max
        return np.full(len(values), values.dtype.kind == "i")
    return np.fromiter(map(_is_integer, values), bool, len(values))


def _integers_of(values: Sequence[Any] | Array) -> Rows:
    """The ids as int64 ``[n]``, -1 where one is no integer of 64 bits."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "iu":
            return np.full(len(values), -1, np.int64)
        return np.where(_are_integers(values), values, -1).astype(np.int64)
    return np.fromiter((v if _is_integer(v) else -1 for v in values), np.int64, len(values))


def _as_ids(values: npt.ArrayLike, name: str) -> tuple[Kind, Array]:
    if isinstance(values, np.ndarray):
        array = values
    else:
        listed = list(values)  # type: ignore[arg-type]
        if any(isinstance(value, str) for value in listed):
            # NumPy would turn numbers beside a string into strings.
            array = np.empty(len(listed), object)
            array[:] = listed
        else:
            array = np.asarray(listed) if listed else np.empty(0, np.int64)
    if array.ndim != 1:
        raise ValueError(f"{name} ids must be one-dimensional (got shape {list(array.shape)})")
    if array.dtype.kind in "iu":
        if array.dtype.kind == "u" and array.size and int(array.max()) >= 2**63:
            raise ValueError(f"{name} ids must be 64-bit integers (got {array.max()})")
        return "integer", array.astype(np.int64)
    if array.dtype.kind in "OUT" and all(isinstance(value, str) for value in array.tolist()):
        return "text", array
    raise TypeError(f"{name} ids must be integers or strings (got {array.dtype})")


def _integers(values: Array, name: str) -> dict[str, Array]:
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    repeated = np.flatnonzero(ascending[1:] == ascending[:-1])
    if len(repeated):
        raise ValueError(f"{name} ids must be distinct (got {ascending[repeated[0]]} twice)")
    if bool((order[1:] > order[:-1]).all()):  # ascending already, as data sets number them
        order = order[:0]
    return {"values": values, "order": order}


def _texts(values: list[str], name: str) -> dict[str, Array]:
    first: dict[str, int] = {}
    for row, value in enumerate(values):
        if first.setdefault(value, row) != row:
            raise ValueError(f"{name} ids must be distinct (got {value!r} twice)")
    try:
        encoded = [value.encode() for value in values]
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} ids must be valid Unicode ({error})") from error
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    hashes = np.fromiter(map(_hash, values), np.uint64, len(values))
    order = np.argsort(hashes, kind="stable")
    text = np.frombuffer(b"".join(encoded), np.uint8)
    return {"bytes": text, "offsets": offsets, "hashes": hashes[order], "order": order}


def _hash(value: str) -> np.uint64:
    # Of the text alone: Python's own hash differs between processes. Lone surrogates, which JSON
    # can bring, are hashed too, and found nowhere.
    text = value.encode(errors="surrogatepass")
    return np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))


def _check_arrays(kind: str, arrays: Mapping[str, Array], size: int, name: str) -> None:
    """Raise ``ValueError`` unless every look-up in these arrays stays inside of them."""
    order = arrays["order"]
    wanted: dict[str, tuple[type, int]] = {"order": (np.int64, size)}
    if kind == "integer":
        wanted = {"order": (np.int64, size if len(order) else 0), "values": (np.int64, size)}
    else:
        offsets = arrays["offsets"]
        last = int(offsets[-1]) if offsets.ndim == 1 and len(offsets) else -1
        wanted |= {"offsets": (np.int64, size + 1), "hashes": (np.uint64, size)}
        wanted |= {"bytes": (np.uint8, last)}
    for key, (dtype, length) in wanted.items():
        if arrays[key].dtype != dtype or arrays[key].shape != (length,):
            raise ValueError(
                f"{key!r} of {name} ids must be {np.dtype(dtype)} [{length}] "
                f"(got {arrays[key].dtype} {list(arrays[key].shape)})"
            )
    if len(order) and (order.min() < 0 or order.max() >= size):
        raise ValueError(f"'order' of {name} ids must lie in 0..{size - 1}")
    if kind == "text" and (arrays["offsets"][0] != 0 or (np.diff(arrays["offsets"]) < 0).any()):
        raise ValueError(f"'offsets' of {name} ids must ascend from 0")
