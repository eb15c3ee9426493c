"""The scale of every row of a table of integers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]

#: The largest integer of a symmetric code.
LARGEST = {"int8": 127, "int4": 7}

#: Steps that the largest value of a row may take. Beyond the largest integer it is cut off, and
#: the others are told apart better: int4 tries all of them, row by row.
STEPS = {"int8": (127.0,), "int4": (7.0, 7.5, 8.0)}

#: Errors are compared in this many parts of a step, as whole numbers.
PARTS = 64

#: The exponent, to the power of two, of the largest scale over the unit. A scale is a normal
#: float16 down to 2**-29 of the largest.
HEADROOM = 15

#: The least exponent of a unit, for which codes times scales are normal float32.
LEAST_UNIT = -105

#: The smallest normal float16, which is the least scale.
LEAST_SCALE = np.finfo(np.float16).smallest_normal

#: Entries of a matrix whose scales are chosen at once.
ENTRIES = 2**18


def row_scales(x: Float32, dtype: str, name: str = "x") -> tuple[Array, float]:
    r"""The scales with which rows are stored as integers.

    Args:
        x: Finite, float32 ``[n, d]``.
        dtype: ``"int8"`` or ``"int4"``.
        name: What to call the matrix in messages.

    Returns:
        The scales, float16 ``[n]``, and the unit that all of them are multiplied by.

    Raises:
        ValueError: If a value is 1e38 or more.

    Example:
        >>> scale, unit = row_scales(np.array([[127.0, 1.0], [0.0, 0.0]], np.float32), "int8")
        >>> (scale * unit).tolist()
        [1.0, 0.0]
    """
    top = np.abs(x).max(1, initial=0)
    if top.max(initial=0) >= 1e38:
        raise ValueError(f"{name!r} must be below 1e38 for {dtype} (got {top.max():g})")
    scale = top / _steps(x, top, dtype)
    unit = unit_of(scale)
    return stored_scales(scale, unit), unit


def unit_of(scale: Float32) -> float:
    """The power of two that scales, float32 ``[n]``, are stored relative to; 0 if all are."""
    largest = float(scale.max(initial=0))
    if largest == 0:
        return 0.0
    fraction, exponent = math.frexp(largest)
    exponent -= fraction == 0.5  # a power of two is its own
    return math.ldexp(1.0, max(exponent - HEADROOM, LEAST_UNIT))


def stored_scales(scale: Float32, unit: float) -> Array:
    """Scales relative to the unit, float16 ``[n]``.

    They are rounded up, so that the largest value of a row keeps the largest integer.
    """
    if unit == 0:
        return np.zeros(len(scale), np.float16)
    relative = scale / np.float32(unit)
    rounded = relative.astype(np.float16)
    rounded.view(np.int16)[...] += rounded.astype(np.float32) < relative  # the next float16
    return np.where(scale > 0, np.maximum(rounded, LEAST_SCALE), np.float16(0))


def _steps(x: Float32, top: Float32, dtype: str) -> Float32:
    """The steps from 0 to the largest value of every row, float32 ``[n]``."""
    chosen = np.full(len(x), STEPS[dtype][0], np.float32)
    if len(STEPS[dtype]) > 1:
        rows = max(ENTRIES // x.shape[1], 1)
        for start in range(0, len(x), rows):
            part = slice(start, start + rows)
            divisor: Float32 = np.where(top[part] > 0, top[part], np.float32(1))
            chosen[part] = _best_steps(x[part] / divisor[:, None], dtype)
    return chosen


def _best_steps(relative: Float32, dtype: str) -> Float32:
    """The steps for which rows with a largest value of 1 lose least, float32 ``[n]``.

    Whole numbers are added up, so that the sum is the same in any order: PyTorch chooses the same
    scales in training (:func:`~pyg_kd.functional.fake_quantize`).
    """
    least = np.full(len(relative), np.inf)
    chosen = np.empty(len(relative), np.float32)
    for steps in STEPS[dtype]:
        wide = relative * np.float32(steps)
        error = wide - np.rint(wide).clip(-LARGEST[dtype], LARGEST[dtype])
        parts = np.square(np.rint(error * np.float32(PARTS)))
        loss = parts.sum(1, dtype=np.float64) / steps**2
        better = loss < least
        least[better], chosen[better] = loss[better], steps
    return chosen
