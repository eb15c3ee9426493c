"""A large table seen through the rows of it that were fetched."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyg_kd.functional.row_tables import make_row_table


class FetchedRows(Tensor):
    r"""Some rows of a table ``[n, d]``, which is not here, under their numbers in the table.

    It has the shape, the dtype and the device of the table, and is read by
    :func:`~pyg_kd.functional.gather_rows`, :func:`~pyg_kd.functional.edge_scores` and
    :func:`~pyg_kd.functional.list_scores`, whose gradients go to the rows. Anything else is
    refused.

    Args:
        rows: The rows, floating point ``[m, d]``.
        ids: Their numbers, ascending and distinct, int64 ``[m]``.
        size: Number of rows of the table.
        node_type: Whose table it is, for messages.

    Example:
        >>> from pyg_kd.functional import gather_rows
        >>> table = FetchedRows(torch.eye(2), torch.tensor([3, 900]), 1000, "item")
        >>> table.shape, gather_rows(table, torch.tensor([900, 3, 3]))[:, 0]
        (torch.Size([1000, 2]), tensor([0., 1., 1.]))
    """

    rows: Tensor
    ids: Tensor
    node_type: str

    @staticmethod
    def __new__(cls, rows: Tensor, ids: Tensor, size: int, node_type: str) -> FetchedRows:
        """A tensor without storage."""
        made: FetchedRows = Tensor._make_wrapper_subclass(
            cls, (size, rows.size(1)), dtype=rows.dtype, device=rows.device
        )
        return made

    def __init__(self, rows: Tensor, ids: Tensor, size: int, node_type: str) -> None:
        self.rows, self.ids, self.node_type = rows, ids, node_type
        make_row_table(self, self._read)

    def _read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The rows, and the places of some numbers among them."""
        place = torch.searchsorted(self.ids, index.to(self.ids.dtype))
        found = self.ids[place.clamp(max=max(len(self.ids) - 1, 0))] if len(self.ids) else index + 1
        if not torch.equal(found, index.to(found.dtype)):
            missing = int(index[found != index].flatten()[0])
            raise ValueError(
                f"row {missing} of {self.node_type!r} is read, but was not fetched: losses and "
                "methods whose 'row_wise' names it tell by 'rows_read' which rows they read"
            )
        return self.rows, place

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = next(x.node_type for x in args if isinstance(x, FetchedRows))
        raise TypeError(
            f"{func} reads the table of {name!r} as a whole, of which rows were fetched alone: "
            "'row_wise' must not name it there"
        )

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"FetchedRows({len(self.ids)} of {len(self)}, {self.node_type!r})"
