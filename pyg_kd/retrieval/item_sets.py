"""Which items may be listed: what is in stock, and named sets."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


class ItemSets:
    r"""Sets of items that may change while others read them.

    Every change replaces a set as a whole, so that a reader sees the old one or the new one.

    Args:
        num_items: Number of items.

    Example:
        >>> sets = ItemSets(4)
        >>> sets.set_available(np.array([0]), False)
        >>> sets.name("films", np.array([0, 1]))
        >>> sets.allowed(["films"]).tolist()
        [False, True, False, False]
    """

    def __init__(self, num_items: int) -> None:
        self.num_items = num_items
        self._available: Mask | None = None
        self._named: dict[str, Mask] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The names of the named sets."""
        return sorted(self._named)

    @property
    def unavailable(self) -> npt.NDArray[np.int64]:
        """The rows of the items that are not available, ascending."""
        available = self._available
        return np.empty(0, np.int64) if available is None else np.flatnonzero(~available)

    def set_available(self, rows: npt.NDArray[np.int64], available: bool) -> None:
        """Put items into or out of stock, for all requests from now on."""
        with self._lock:
            old = self._available
            new = np.ones(self.num_items, bool) if old is None else old.copy()
            new[rows] = available
            self._available = None if new.all() else new

    def name(self, name: str, rows: npt.NDArray[np.int64]) -> None:
        """Name a set of items, or replace the one of that name."""
        mask = np.zeros(self.num_items, bool)
        mask[rows] = True
        with self._lock:
            self._named = {**self._named, name: mask}

    def allowed(
        self,
        names: str | Sequence[str] | None = None,
        *,
        only: npt.NDArray[np.int64] | None = None,
        without: npt.NDArray[np.int64] | None = None,
    ) -> Mask | None:
        r"""The items that a request may list, bool ``[I]``, or ``None`` for all.

        Args:
            names: Named sets, all of which must hold an item.
            only: Rows of the only items allowed.
            without: Rows of items not allowed.

        Raises:
            ValueError: If there is no set of a name.
        """
        masks = [self._mask(name) for name in ([names] if isinstance(names, str) else names or ())]
        if (available := self._available) is not None:
            masks.append(available)
        if only is not None:
            mask = np.zeros(self.num_items, bool)
            mask[only] = True
            masks.append(mask)
        if without is not None and len(without):
            mask = np.ones(self.num_items, bool)
            mask[without] = False
            masks.append(mask)
        if not masks:
            return None
        allowed: Any = np.logical_and.reduce(masks) if len(masks) > 1 else masks[0]
        return allowed  # type: ignore[no-any-return]

    def _mask(self, name: str) -> Mask:
        try:
            return self._named[name]
        except (KeyError, TypeError):
            raise ValueError(f"'filters' must be out of {self.names} (got {name!r})") from None
