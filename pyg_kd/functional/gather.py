"""Picking rows, with a backward pass that is one pass over them."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import embedding


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    r"""Rows of ``x`` (``[n, d]``) at ``index`` (int64 ``[...]``): ``[..., d]``.

    The same as ``x[index]``, with the backward kernel of an embedding table,
    which sums repeated rows in a fraction of the time of an indexed add.
    """
    return embedding(index, x)
