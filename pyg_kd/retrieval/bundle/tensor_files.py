"""The safetensors layout over plain bytes, so that tables are mapped from a file, not copied.

``safetensors.numpy`` copies what it reads. Here arrays are views of the bytes given, which may be a
memory map, and nothing is allocated on the word of a header.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: What files may hold.
DTYPES: dict[str, np.dtype[Any]] = {
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "I32": np.dtype("<i4"),
    "F16": np.dtype("<f2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}

#: Bytes of the length in front of a header.
LENGTH = 8

#: The data begins at a multiple of this, a line of the processor's cache.
ALIGNMENT = 64

#: Headers name a few arrays; a longer one is no header.
LONGEST_HEADER = 1 << 20


def encode(arrays: Mapping[str, npt.ArrayLike]) -> Iterator[bytes | memoryview]:
    r"""The bytes of a safetensors file in parts: the header, then the arrays without a copy.

    Equal arrays give equal bytes. Wide types come first, so that every array is aligned.

    Args:
        arrays: Arrays by name.

    Raises:
        TypeError: If an array has a dtype that files may not hold.

    Example:
        >>> data = b"".join(encode({"x": np.arange(3, dtype=np.float32)}))
        >>> decode(data)["x"].tolist()
        [0.0, 1.0, 2.0]
    """
    codes = {dtype: code for code, dtype in DTYPES.items()}
    held = {name: np.asarray(array) for name, array in arrays.items()}
    header, start, parts = {}, 0, []
    for name, array in sorted(held.items(), key=lambda entry: (-entry[1].itemsize, entry[0])):
        if array.dtype not in codes:
            raise TypeError(f"{name!r} must have one of the dtypes {[*codes]} (got {array.dtype})")
        stop = start + array.nbytes
        offsets = [start, stop]
        header[name] = {
            "dtype": codes[array.dtype],
            "shape": [*array.shape],
            "data_offsets": offsets,
        }
        parts.append(array)
        start = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(LENGTH + len(text)) % ALIGNMENT)
    yield len(text).to_bytes(LENGTH, "little") + text
    for array in parts:
        if array.nbytes:  # bytes of an empty array can't be cast
            yield np.ascontiguousarray(array).data.cast("B")


def decode(data: Any) -> dict[str, Array]:
    r"""The arrays of a safetensors file, as views of its bytes that can't be written to.

    Args:
        data: The bytes of the whole file: ``bytes``, a memory map, or another buffer.

    Raises:
        ValueError: If the bytes are not those of a safetensors file with these dtypes in which
            every byte belongs to one array.
    """
    view = memoryview(data).cast("B").toreadonly()
    length = int.from_bytes(view[:LENGTH], "little")
    if len(view) < LENGTH or length > min(len(view) - LENGTH, LONGEST_HEADER):
        raise ValueError(f"a header of {length} bytes does not fit into {len(view)} bytes")
    entries = _header(bytes(view[LENGTH : LENGTH + length]))
    first = LENGTH + length
    found, place = {}, 0
    for name, (dtype, shape, start, stop) in sorted(entries.items(), key=lambda e: e[1][2:]):
        size = dtype.itemsize * math.prod(shape)
        if start != place or stop - start != size:
            raise ValueError(
                f"{name!r} is {dtype} {shape}, {size} bytes from {place} on (got {start}..{stop})"
            )
        if stop > len(view) - first:
            raise ValueError(f"{name!r} ends {stop - len(view) + first} bytes behind the file")
        if (first + start) % dtype.itemsize:
            raise ValueError(f"{name!r} is not aligned")
        found[name] = np.ndarray(shape, dtype, view, first + start)
        place = stop
    if place != len(view) - first:
        raise ValueError(f"{len(view) - first - place} bytes belong to no array")
    return found


Entry = tuple["np.dtype[Any]", list[int], int, int]


def _header(text: bytes) -> dict[str, Entry]:
    """Dtype, shape, first and last byte of each array."""
    try:
        header = json.loads(text.decode(), object_pairs_hook=_distinct)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ValueError(f"the header is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    header.pop("__metadata__", None)  # what other programs note
    return {name: _entry(name, told) for name, told in header.items()}


def _entry(name: str, told: object) -> Entry:
    if not isinstance(told, dict) or told.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the header tells {name!r} in another way (got {told!r:.80})")
    shape, offsets = told["shape"], told["data_offsets"]
    lists = isinstance(shape, list) and isinstance(offsets, list)
    if not lists or len(offsets) != 2 or len(shape) > 8:
        raise ValueError(f"{name!r} has a shape or offsets out of order (got {told!r:.80})")
    if not all(type(n) is int and 0 <= n < 2**63 for n in (*shape, *offsets)):
        raise ValueError(f"{name!r} has a shape or offsets out of range (got {told!r:.80})")
    dtype = DTYPES.get(told["dtype"]) if isinstance(told["dtype"], str) else None
    if dtype is None:
        raise ValueError(f"{name!r} must have one of {[*DTYPES]} (got {told['dtype']!r:.20})")
    return dtype, shape, offsets[0], offsets[1]


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is repeated")
    return found
