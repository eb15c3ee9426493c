"""Users who came after training."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.ids import Ids, listed

Rows = npt.NDArray[np.int64]


class Newcomers:
    r"""Numbers new users behind the known ones.

    Readers need no lock; one writer at a time.

    Args:
        users: The ids of the users of the table.

    Example:
        >>> newcomers = Newcomers(Ids(["anna"], name="user"))
        >>> newcomers.row("bob"), newcomers.find(["anna", "bob", "eve"]).tolist()
        (1, [0, 1, -1])
    """

    def __init__(self, users: Ids) -> None:
        self.users = users
        self._rows: dict[Any, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, ids: Any) -> Rows:
        """The rows of users, known or new, int64 ``[n]``, -1 for others."""
        rows = self.users.find(ids)
        if self._rows and len(rows) and rows.min() < 0:
            wanted = listed(ids)
            for place in np.flatnonzero(rows < 0).tolist():
                rows[place] = self._rows.get(_plain(wanted[place]), -1)
        return rows

    def rows(self, ids: Any, argument: str) -> Rows:
        """As :meth:`find`, but an unknown id raises :class:`UnknownId`, which names it."""
        rows = self.find(ids)
        if len(rows) and rows.min() < 0:
            raise self.users.unknown(listed(ids)[int(np.argmin(rows))], argument)
        return rows

    def row(self, user: Any) -> int:
        """The row of a user, who is known from now on.

        Raises:
            TypeError: If a new user's id is not of the kind of the others.
        """
        row = int(self.find([user])[0])
        if row >= 0:
            return row
        plain = _plain(user)
        wanted = str if self.users.kind == "text" else int
        if type(plain) is not wanted:
            raise TypeError(
                f"'user' must be {wanted.__name__}, as other ids are (got {user!r:.80})"
            )
        if isinstance(plain, int) and not -(2**63) <= plain < 2**63:
            raise ValueError(f"'user' must be a 64-bit integer (got {plain})")
        row = len(self.users) + len(self._rows)
        self._rows[plain] = row
        return row


def _plain(user: Any) -> Any:
    """A NumPy scalar as Python's own, so that equal ids are one key."""
    return user.item() if isinstance(user, np.generic) else user
