"""Embeddings to start from that know the graph: its leading singular vectors."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_at_least, require_count, require_positive
from pyg_kd.functional.sparse import CSR, csr_matmul
from pyg_kd.graph import Neighbors, interactions
from pyg_kd.models.low_rank import iterated

M = TypeVar("M", bound=nn.Module)

#: First embeddings by name, besides random ones.
STARTS = ("spectral",)

#: Vectors beyond those wanted, which make the last of these accurate.
EXTRA = 16


def spectral_embeddings(
    data: HeteroData, dim: int, *, shift: float = 30.0, std: float = 0.1, num_rounds: int = 4
) -> tuple[Tensor, Tensor]:
    r"""Embeddings from the singular vectors of a graph, for a model to start from.

    .. math::
        (D_U + c)^{-1/2} R \, (D_I + c)^{-1/2} \approx U \Sigma V^\top, \qquad
        x_u = \gamma \, (U \Sigma)_u, \quad x_i = \gamma \, (V \Sigma)_i

    by subspace iteration from a random start. The shift :math:`c` keeps small groups of nodes
    with few edges from having the leading vectors to themselves, as in `"SVD-GCN"
    <https://arxiv.org/abs/2208.12689>`_; :math:`\gamma` gives all entries together the standard
    deviation of a usual start. Columns beyond the rank of the graph, and rows of nodes without
    edges, are drawn at random: a cosine has no gradient at zero.

    Args:
        data: The training graph.
        dim: Width :math:`d` of the embeddings.
        shift: :math:`c`, in edges.
        std: Root mean square of the entries.
        num_rounds: Rounds of the iteration; few are enough for a start.

    Returns:
        float32 ``[U, d]`` and ``[I, d]``, the same for the same state of PyTorch's generator.

    Raises:
        ValueError: If an option is out of range, or the graph has no edges.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.models import LightGCN
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> model = start_from_spectrum(LightGCN(data, dim=4), data)
    """
    require_count(dim=dim)
    require_count(0, num_rounds=num_rounds)
    require_at_least(0, shift=shift)
    require_positive(std=std)
    edges = interactions(data)
    of_user, of_item = edges.by_user(), edges.by_item()
    if of_user.col.numel() == 0:
        raise ValueError("'data' has no interactions to start from")
    rows, cols = _scaled(of_user, of_item, shift), _scaled(of_item, of_user, shift)
    rank = min(dim, edges.num_users, edges.num_items)
    user, value, item = _singular(rows, cols, edges.num_items, rank, num_rounds)
    tables = [
        _filled(x * value, dim, side.degree) for x, side in ((user, of_user), (item, of_item))
    ]
    scale = std / torch.cat(tables).square().mean().sqrt()
    return tables[0] * scale, tables[1] * scale


def start_from_spectrum(model: M, data: HeteroData) -> M:
    r"""Replace the embeddings of a model by :func:`spectral_embeddings`, in place.

    Args:
        model: A model whose parameters are a table of users and one of items.
        data: The training graph.

    Returns:
        The model.

    Raises:
        ValueError: If it has other parameters, or the graph has no edges.
    """
    tables = two_tables(model, data)
    with torch.no_grad():
        for table, x in zip(tables, spectral_embeddings(data, tables[0].size(1)), strict=True):
            table.copy_(x)
    return model


def two_tables(model: nn.Module, data: HeteroData) -> list[nn.Parameter]:
    """The tables that start from singular vectors; ``ValueError`` for other parameters."""
    tables = [*model.parameters()]
    sizes, dim = interactions(data)[1:], tables[0].size(-1) if tables else 0
    if [tuple(x.shape) for x in tables] != [(size, dim) for size in sizes]:
        raise ValueError(
            f"a start from singular vectors needs a model of two tables, {list(sizes)} rows of one "
            f"width (got {model!r})"
        )
    return tables


def _scaled(rows: Neighbors, cols: Neighbors, shift: float) -> CSR:
    left, right = ((x.degree + shift).to(torch.float).rsqrt() for x in (rows, cols))
    value = left.repeat_interleave(rows.degree) * right[rows.col]
    return CSR.of(rows, value)


def _singular(
    rows: CSR, cols: CSR, num_cols: int, rank: int, num_rounds: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Leading singular triples of a matrix, which is given with its transpose."""
    width = min(rank + EXTRA, num_cols, rows.ptr.numel() - 1)
    basis = torch.randn(num_cols, width, device=rows.value.device)
    basis = iterated(rows, cols, basis, num_rounds)
    if num_rounds == 0:
        basis = torch.linalg.qr(basis)[0]
    left, value, right = torch.linalg.svd(csr_matmul(*rows, basis), full_matrices=False)
    return left[:, :rank], value[:rank], (basis @ right.t())[:, :rank]


def _filled(x: Tensor, dim: int, degree: Tensor) -> Tensor:
    """``x`` with random columns of its own size up to ``dim``, and rows where there is no edge."""
    random = torch.randn(len(x), dim, device=x.device) * x.square().mean().sqrt()
    filled = torch.cat([x, random[:, x.size(1) :]], 1)
    return torch.where(degree.unsqueeze(1) > 0, filled, random)
