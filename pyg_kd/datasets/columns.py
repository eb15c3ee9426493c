"""Columns of ids and of timestamps, checked and turned into tensors."""

from __future__ import annotations

import re
import warnings
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

#: NumPy would also read ``20240131`` (as a year), ``now`` and ``NaT``.
_DATE = re.compile(r"\d{4}-\d\d")


def numbered(name: str, column: Any) -> tuple[Tensor, Tensor | list[str]]:
    r"""Number the distinct ids of a column ``0..n-1`` in ascending order.

    Args:
        name: The name of the column, for messages.
        column: The ids, integers or strings, ``[N]``. Floating-point numbers are taken where
            they are whole and below the range in which they would be rounded.

    Returns:
        The numbers, int64 ``[N]``, and the ids in their order: int64 ``[n]``, or
        a list of strings.

    Raises:
        TypeError: If the ids are neither all numbers nor all strings.
        ValueError: If an id is missing, is not whole, or exceeds int64.
    """
    values = _as_array(name, column)
    if _is_text(values):
        return _numbered_strings(values.tolist())
    if values.dtype.kind == "O":
        values = _unboxed(name, values, "integers or strings")
    if values.dtype.kind not in "iuf":
        raise TypeError(f"column '{name}' must hold integers or strings (got {values.dtype})")
    _refuse_inexact(name, values)
    ids, number = np.unique(values, return_inverse=True)
    return torch.from_numpy(number.astype(np.int64)), torch.from_numpy(ids.astype(np.int64))


def seconds(name: str, column: Any) -> Tensor:
    r"""Turn a column of timestamps into int64 or float64 ``[N]``.

    Numbers are kept. Dates, and strings in the form of ISO 8601, become whole seconds since 1970
    in UTC.

    Args:
        name: The name of the column, for messages.
        column: The timestamps, ``[N]``.

    Raises:
        TypeError: If the timestamps are neither numbers nor dates.
        ValueError: If a timestamp is missing, is infinite, or exceeds int64.
    """
    if getattr(getattr(column, "dtype", None), "tz", None) is not None:
        column = _accessor(_accessor(column).tz_convert("UTC")).tz_localize(None)
    values = _as_array(name, column)
    if _is_text(values):
        values = _dates(name, values)
    elif values.dtype.kind == "O":
        values = _unboxed(name, values, "numbers or dates")
    if values.dtype.kind == "M":
        values = values.astype("datetime64[s]").astype(np.int64)
    if values.dtype.kind not in "iuf":
        raise TypeError(f"column '{name}' must hold numbers or dates (got {values.dtype})")
    if values.dtype.kind == "f":
        if np.isinf(values).any():
            raise ValueError(f"column '{name}' must hold finite numbers (got an infinite one)")
        return torch.from_numpy(values.astype(np.float64))
    _refuse_long(name, values)
    return torch.from_numpy(values.astype(np.int64))


def _accessor(column: Any) -> Any:
    """Where pandas keeps the methods of dates: a series below ``dt``, an index in itself."""
    return getattr(column, "dt", column)


def _as_array(name: str, column: Any) -> npt.NDArray[Any]:
    """The column as a one-dimensional array without missing values."""
    if isinstance(column, Tensor):
        if column.dtype == torch.bfloat16:
            raise TypeError(f"column '{name}' must not be of low precision (got {column.dtype})")
        column = column.detach().cpu().numpy()
    elif hasattr(column, "to_numpy"):
        missing = np.count_nonzero(column.isna()) if hasattr(column, "isna") else 0
        _refuse_missing(name, int(missing))
        column = column.to_numpy()
    try:
        values: npt.NDArray[Any] = np.asarray(column)
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"column '{name}' must hold one value a row ({error})") from error
    if values.dtype.kind == "U" and not isinstance(column, np.ndarray):
        # NumPy makes strings of whatever stands beside one, and cuts zeros off their ends.
        listed = [str(value) if isinstance(value, str) else value for value in column]
        values = np.array(listed, dtype=object)
    if values.ndim != 1:
        raise ValueError(f"column '{name}' must have one dimension (got {list(values.shape)})")
    if values.dtype.kind in "fMm":
        _refuse_missing(name, int(np.count_nonzero(values != values)))
    elif values.dtype.kind == "O" and _kinds(values) != {str}:
        _refuse_missing(name, sum(map(_is_missing, values.tolist())))
    return values


def _is_missing(value: Any) -> bool:
    """Whether a value is ``None`` or differs from itself."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas.NA can't tell
        return True
    except ValueError:  # an array, which is refused by its type
        return False


def _dates(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Strings as dates."""
    wrong = next((value for value in values.tolist() if not _DATE.match(value)), None)
    reason = f"got {wrong!r}"
    if wrong is None:
        try:
            return _naive(values)
        except ValueError as error:
            reason = str(error)
    raise TypeError(
        f"column '{name}' must hold numbers, dates or strings like 2024-01-31T12:00:00 "
        f"({reason}): pandas.to_datetime reads others"
    )


def _naive(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a zone, which is taken off: that is what we want
        return values.astype("datetime64[s]")


def _numbered_strings(values: list[str]) -> tuple[Tensor, list[str]]:
    # Hashed, not sorted as an array: that would pad all ids to the longest.
    ids = sorted(set(values))
    number = dict(zip(ids, range(len(ids)), strict=True))
    dense = np.fromiter(map(number.__getitem__, values), dtype=np.int64, count=len(values))
    return torch.from_numpy(dense), ids


def _is_text(values: npt.NDArray[Any]) -> bool:
    return values.dtype.kind == "U" or (values.dtype.kind == "O" and _kinds(values) == {str})


def _kinds(values: npt.NDArray[Any]) -> set[type]:
    return set(map(type, values.tolist()))


def _unboxed(name: str, values: npt.NDArray[Any], wanted: str) -> npt.NDArray[Any]:
    """An object array of numbers or of dates as an array of its own type."""
    kinds = _kinds(values)
    if kinds and all(issubclass(kind, date) for kind in kinds):
        return _naive(values)
    number = (int, float, np.integer, np.floating)
    if not kinds or not all(issubclass(kind, number) and kind is not bool for kind in kinds):
        found = ", ".join(sorted(kind.__name__ for kind in kinds)) or "object"
        raise TypeError(f"column '{name}' must hold {wanted} (got {found})")
    if any(issubclass(kind, (float, np.floating)) for kind in kinds):
        return values.astype(np.float64)
    try:
        return values.astype(np.int64)
    except OverflowError as error:
        longest = max(values.tolist(), key=abs)
        raise ValueError(f"column '{name}' must hold 64-bit integers (got {longest})") from error


def _refuse_inexact(name: str, values: npt.NDArray[Any]) -> None:
    """Refuse numbers that are no integers of 64 bits, or may have been rounded to one."""
    if values.dtype.kind != "f":
        return _refuse_long(name, values)
    digits = min(np.finfo(values.dtype).nmant + 1, 53)
    wrong = (values != np.floor(values)) | (np.abs(values) >= 2.0**digits)
    if wrong.any():
        raise ValueError(
            f"column '{name}' must hold integers or strings, or whole numbers below 2**{digits} "
            f"in {values.dtype} (got {values[wrong][0]})"
        )


def _refuse_long(name: str, values: npt.NDArray[Any]) -> None:
    if values.dtype.kind == "u" and values.size and int(values.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"column '{name}' must hold 64-bit integers (got {values.max()})")


def _refuse_missing(name: str, count: int) -> None:
    if count:
        raise ValueError(f"column '{name}' must have no missing values (got {count})")
