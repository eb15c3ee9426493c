from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load as library_load
from safetensors.numpy import save as library_save

from pyg_kd.retrieval.bundle.tensor_files import ALIGNMENT, DTYPES, decode, encode

ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
    hnp.arrays(
        st.sampled_from([*DTYPES.values()]), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)
    ),
    max_size=5,
)


def written(arrays: dict) -> bytes:
    return b"".join(encode(arrays))


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        one[n].dtype == other[n].dtype
        and one[n].shape == other[n].shape
        and one[n].tobytes() == other[n].tobytes()
        for n in one
    )


@given(ARRAYS)
def test_the_library_reads_what_is_written(arrays):
    assert same(library_load(written(arrays)), arrays)


@given(ARRAYS)
def test_what_the_library_writes_is_read(arrays):
    arrays = {name: np.atleast_1d(array) for name, array in arrays.items()}
    assert same(decode(library_save(arrays, metadata={"a": "b"})), arrays)


@given(ARRAYS)
def test_equal_arrays_give_equal_bytes_whatever_their_order(arrays):
    turned = {name: np.asarray(arrays[name], order="F") for name in reversed(arrays)}
    assert written(turned) == written(arrays)


def test_arrays_are_aligned_views_that_cannot_be_written_to():
    data = bytearray(written({"a": np.arange(3, dtype=np.int8), "b": np.ones((2, 2))}))
    found = decode(data)
    assert (len(data) - 35) % ALIGNMENT == 0
    assert all(x.flags.aligned and not x.flags.writeable for x in found.values())
    data[-1] = 9  # the last byte of the last array
    assert found["a"].tolist() == [0, 1, 9]


def test_a_dtype_that_files_may_not_hold():
    with pytest.raises(TypeError, match=r"'x' must have one of the dtypes .* \(got bool\)"):
        written({"x": np.ones(3, bool)})


def raw(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with a header, given as bytes or to be written as JSON of a multiple of 8 bytes."""
    text = header
    if not isinstance(text, bytes):
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def told(shape: object, start: object, stop: object, dtype: object = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


X = told([2], 0, 8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not fit into 0 bytes"),
        (b"\0" * 7, "does not fit into 7 bytes"),
        (raw({}, length=2**63), "a header of 9223372036854775808 bytes does not fit"),
        (raw({}, length=9), "a header of 9 bytes does not fit into 16 bytes"),
        (raw(b"{" * 100_000), "no JSON"),
        (raw(b'{"x":' * 100_000), "no JSON"),
        (raw(b"\xff\xfe"), "no JSON"),
        (raw([X], bytes(8)), "no JSON object"),
        (raw({"x": X}, bytes(7)), "'x' ends 1 bytes behind the file"),
        (raw({"x": X}, bytes(9)), "1 bytes belong to no array"),
        (raw({}, bytes(8)), "8 bytes belong to no array"),
        (raw({"x": told([3], 0, 8)}, bytes(8)), r"'x' is float32 \[3\], 12 bytes"),
        (raw({"x": told([2**62, 2**62], 0, 8)}, bytes(8)), "'x' is float32"),
        (raw({"x": told([2], 4, 12)}, bytes(12)), r"8 bytes from 0 on \(got 4..12\)"),
        (raw({"x": X, "y": X}, bytes(8)), r"'y' .* 8 bytes from 8 on \(got 0..8\)"),
        (raw({"x": X, "y": told([2], 12, 20)}, bytes(20)), r"from 8 on \(got 12..20\)"),
        (raw({"x": told([2], 8, 0)}, bytes(8)), "8 bytes from 0 on"),
        (raw({"x": told([-2], 0, 8)}, bytes(8)), "out of range"),
        (raw({"x": told([2.0], 0, 8)}, bytes(8)), "out of range"),
        (raw({"x": told([True], 0, 4)}, bytes(4)), "out of range"),
        (raw({"x": told([2], 0, 2**64)}, bytes(8)), "out of range"),
        (raw({"x": told([1] * 9, 0, 4)}, bytes(4)), "out of order"),
        (raw({"x": told("2", 0, 8)}, bytes(8)), "out of order"),
        (raw({"x": told([2], 0, 8, "BF16")}, bytes(8)), "must have one of"),
        (raw({"x": told([2], 0, 8, ["F32"])}, bytes(8)), "must have one of"),
        (raw({"x": {**X, "more": 1}}, bytes(8)), "in another way"),
        (raw({"x": [1, 2]}, bytes(8)), "in another way"),
        (raw(json.dumps({"x": X})[:-1].encode() + b',"x":{}}', bytes(8)), "repeated"),
        (raw(json.dumps({"x": X}).encode(), bytes(8)), "not aligned"),
    ],
)
def test_what_is_no_such_file(data, message):
    with pytest.raises(ValueError, match=message):
        decode(data)


def test_nothing_is_allocated_on_the_word_of_a_header():
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(ValueError, match="behind the file"):
        decode(raw({"x": told([2**40], 0, 2**42)}, bytes(8)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
