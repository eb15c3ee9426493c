"""Embedding tables in float32, float16, int8 and int4, widened where they are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from pyg_kd.checks import require_choice
from pyg_kd.retrieval.scales import LARGEST, row_scales

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]

Dtype = Literal["float32", "float16", "int8", "int4"]

DTYPES: tuple[str, ...] = get_args(Dtype)

#: The bits of a float32 that a float16 fills once it is shifted: the sign has moved on its own.
SIGN_AND_REST = np.int32(0x8FFFE000 - 2**32)

#: int4 values are stored as 1 to 15, two in a byte; 8 is zero.
ZERO = 8


class Table:
    r"""Rows of a matrix at one of four precisions.

    An integer row is stored as :math:`q_r = \mathrm{round}(x_r / s_r)` with the scale
    :math:`s_r = \max_j |x_{rj}| / 127`, and for int4 :math:`\max_j |x_{rj}| / t` with that
    :math:`t` out of 7, 7.5 and 8 for which the row loses least in squares; what exceeds 7 is cut
    off.
    Scales are float16 multiples of a power of two, the table's unit, so that a row of width
    :math:`d` takes :math:`d + 2` bytes as int8 and :math:`\lceil d / 2 \rceil + 2` as int4. A
    row of zeros has scale 0 and stays zero.

    Use :meth:`of` to make a table. What a table of integers gives back goes into another one of
    its kind unchanged, bit for bit.

    Example:
        >>> x = np.array([[1.0, -0.5], [0.0, 0.0]], dtype=np.float32)
        >>> table = Table.of(x, "int8")
        >>> table.rows(np.array([0, 1])).round(2).tolist()
        [[1.0, -0.5], [0.0, 0.0]]
        >>> table.nbytes
        8
    """

    def __init__(
        self, dtype: str, dim: int, values: Array, scale: Array | None = None, unit: float = 1.0
    ) -> None:
        require_choice(DTYPES, dtype=dtype)
        self.dtype, self.dim = dtype, dim
        self.values, self.scale, self.unit = values, scale, unit
        width = (dim + 1) // 2 if dtype == "int4" else dim
        stored = np.dtype("uint8" if dtype == "int4" else dtype)
        if values.ndim != 2 or values.shape[1] != width or values.dtype != stored:
            raise ValueError(
                f"'values' of {dtype} must be {stored} [n, {width}] "
                f"(got {values.dtype} {list(values.shape)})"
            )
        if (scale is not None) != (dtype in LARGEST):
            raise ValueError(f"'scale' goes with integers (got {dtype})")
        if scale is not None and (scale.dtype != np.float16 or scale.shape != values.shape[:1]):
            raise ValueError(
                f"'scale' must be float16 [{len(values)}] (got {scale.dtype} {list(scale.shape)})"
            )

    @staticmethod
    def of(x: npt.ArrayLike, dtype: str = "float32", name: str = "x") -> Table:
        r"""Store a matrix at a precision.

        Args:
            x: Floating point ``[n, d]``; float32 is kept, not copied.
            dtype: ``"float32"``, ``"float16"``, ``"int8"`` or ``"int4"``.
            name: What to call the matrix in messages.

        Raises:
            TypeError: If the values are not floating point.
            ValueError: If they are not a matrix with at least one column, not finite, beyond
                float16 where that is asked for, or 1e38 and more where integers are.
        """
        require_choice(DTYPES, dtype=dtype)
        matrix = _matrix(x, name)
        if dtype == "float32":
            return Table(dtype, matrix.shape[1], matrix)
        if dtype == "float16":
            largest = float(np.abs(matrix).max(initial=0))
            if largest > float(np.finfo(np.float16).max):
                raise ValueError(f"{name!r} must fit into float16 (got {largest:g})")
            return Table(dtype, matrix.shape[1], matrix.astype(np.float16))
        scale, unit = row_scales(matrix, dtype, name)
        codes = _codes(matrix, scale.astype(np.float32) * np.float32(unit), LARGEST[dtype])
        values = _pack(codes) if dtype == "int4" else codes
        return Table(dtype, matrix.shape[1], values, scale, unit)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        """Bytes of the values and scales."""
        return self.values.nbytes + (0 if self.scale is None else self.scale.nbytes)

    def block(self, start: int, stop: int) -> Float32:
        """Rows ``start`` to ``stop``, float32 ``[stop - start, d]``; a view of a float32 table."""
        scale = None if self.scale is None else self.scale[start:stop]
        return self._widen(self.values[start:stop], scale)

    def rows(self, index: Array) -> Float32:
        """Some rows, int64 ``[n]``, as float32 ``[n, d]``."""
        return self._widen(self.values[index], None if self.scale is None else self.scale[index])

    def take(self, index: Array) -> Table:
        """A table of some rows, int64 ``[n]``, at the same precision."""
        scale = None if self.scale is None else self.scale[index]
        return Table(self.dtype, self.dim, self.values[index], scale, self.unit)

    def arrays(self) -> dict[str, Array]:
        """What a file holds; :meth:`from_arrays` reads it."""
        if self.scale is None:
            return {"values": self.values}
        unit = np.array([self.unit], dtype=np.float32)
        return {"values": self.values, "scale": self.scale, "unit": unit}

    @staticmethod
    def from_arrays(dtype: str, arrays: Mapping[str, Array], dim: int) -> Table:
        """The table of the arrays that :meth:`arrays` returned, which are not copied.

        Raises:
            ValueError: If arrays are missing, or their shapes or dtypes don't fit.
        """
        wanted = {"values", "scale", "unit"} if dtype in LARGEST else {"values"}
        if arrays.keys() != wanted:
            raise ValueError(f"a table of {dtype} has {sorted(wanted)} (got {sorted(arrays)})")
        if dtype not in LARGEST:
            return Table(dtype, dim, arrays["values"])
        unit = arrays["unit"]
        if unit.dtype != np.float32 or unit.shape != (1,) or not 0 <= float(unit[0]) < np.inf:
            raise ValueError(f"'unit' must be one finite float32 (got {unit!r})")
        return Table(dtype, dim, arrays["values"], arrays["scale"], float(unit[0]))

    def _widen(self, values: Array, scale: Array | None) -> Float32:
        if self.dtype == "float32":
            return values
        if scale is None:
            return _from_half(values)
        codes = _unpack(values, self.dim) if self.dtype == "int4" else values
        factor = scale.astype(np.float32) * np.float32(self.unit)
        wide: Float32 = np.multiply(codes, factor[:, None], dtype=np.float32)
        return wide

    def __repr__(self) -> str:
        return f"Table([{len(self)}, {self.dim}], {self.dtype})"


def _matrix(x: npt.ArrayLike, name: str) -> Float32:
    matrix = np.asarray(x)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(f"{name!r} must be a matrix [n, d] (got shape {list(matrix.shape)})")
    if matrix.dtype.kind != "f":
        raise TypeError(f"{name!r} must be floating point (got {matrix.dtype})")
    with np.errstate(over="ignore"):
        matrix = matrix.astype(np.float32, order="C", copy=False)
    if not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(1))[0])
        raise ValueError(f"{name!r} must be finite (row {row} is not)")
    return matrix


def _codes(matrix: Float32, scale: Float32, largest: int) -> npt.NDArray[np.int8]:
    divisor = np.where(scale > 0, scale, 1)[:, None]
    return np.rint(matrix / divisor).clip(-largest, largest).astype(np.int8)


def _from_half(values: Array) -> Float32:
    """Finite float16 as float32, by its bits: a seventh of the time of NumPy's conversion."""
    bits = values.view(np.int16).astype(np.int32)
    bits <<= 13  # exponent and mantissa where float32 has them
    bits &= SIGN_AND_REST
    wide: Float32 = bits.view(np.float32)
    wide *= np.float32(2.0**112)  # the exponents' zeros are so far apart
    return wide


def _pack(codes: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Two values in a byte, the first one in the low half."""
    stored: Array = (codes + ZERO).astype(np.uint8)
    if stored.shape[1] % 2:
        stored = np.pad(stored, ((0, 0), (0, 1)), constant_values=ZERO)
    packed: npt.NDArray[np.uint8] = stored[:, ::2] | (stored[:, 1::2] << 4)
    return packed


def _unpack(packed: Array, dim: int) -> npt.NDArray[np.int8]:
    codes = np.empty((len(packed), 2 * packed.shape[1]), np.int8)
    codes[:, ::2] = packed & 15
    codes[:, 1::2] = packed >> 4
    codes -= ZERO
    return codes[:, :dim]
