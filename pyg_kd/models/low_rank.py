"""Ridge regression of items on items where no matrix of all of them can be inverted."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_kd.functional.sparse import CSR, csr_matmul, row_matmul
from pyg_kd.functional.sparse_blocks import product_block
from pyg_kd.models.fitted import Fitted, by_entry, entity_of, pattern
from pyg_kd.typing import ITEM, USER

#: Further vectors, and rounds, of the iteration for the leading eigenvectors.
SPARE, ROUNDS = 32, 6


def leading_eigenpairs(rows: CSR, cols: CSR, rank: int) -> tuple[Tensor, Tensor]:
    r"""The largest eigenvalues of :math:`Y^\top Y` and their vectors, given Y by rows and columns.

    By subspace iteration from random vectors, all at once, as in `"Finding Structure with
    Randomness" <https://doi.org/10.1137/090771806>`_. Eigenvalues that are close to the last one
    have not converged, nor have their vectors.

    Returns:
        ``[rank]``, descending, and ``[columns, rank]``, orthonormal.
    """
    size, device = len(cols.ptr) - 1, rows.value.device
    generator = torch.Generator(device=device).manual_seed(0)
    width = min(rank + SPARE, size)
    basis = torch.randn(size, width, generator=generator, device=device, dtype=rows.value.dtype)
    basis = iterated(rows, cols, basis, ROUNDS)
    product = csr_matmul(*rows, basis)
    values, vectors = torch.linalg.eigh(product.t() @ product)
    return values.flip(0)[:rank].clamp(min=0), basis @ vectors.flip(1)[:, :rank]


def iterated(rows: CSR, cols: CSR, basis: Tensor, num_rounds: int) -> Tensor:
    """Rounds of subspace iteration with a matrix, by rows and by columns: ``basis`` after them."""
    for _ in range(num_rounds):
        basis = torch.linalg.qr(csr_matmul(*cols, csr_matmul(*rows, basis)))[0]
    return basis


def fit_low_rank(
    model: Fitted, l2: float, rank: int, user_weight: Tensor, item_weight: Tensor, out: Tensor
) -> Tensor:
    r"""Register an approximation of ridge regression as buffers of a model.

    .. math::
        S = X D_o^{-1} F D_o, \qquad F = A (A + \lambda I)^{-1}, \qquad
        A = D_g X^\top D_w X D_g

    With the leading eigenpairs :math:`A V = V L` and the mean :math:`\tau` of the other
    eigenvalues, what is left of F is linear in A up to the second order of :math:`\mu / \lambda`:

    .. math::
        F \approx V \left(\frac{L}{L + \lambda} - \kappa L\right) V^\top + \kappa A, \qquad
        \kappa = \frac{1}{\lambda + \tau}

    Args:
        model: The model, with its interactions registered.
        l2: The penalty :math:`\lambda`.
        rank: How many eigenpairs are used.
        user_weight: :math:`w`, ``[U]``.
        item_weight: :math:`g`, ``[I]``.
        out: :math:`o`, positive, ``[I]``.

    Returns:
        The diagonal of F, ``[I]``.
    """
    by_user, by_item = pattern(model, USER), pattern(model, ITEM)
    root = user_weight.sqrt()
    rows = by_user._replace(value=by_entry(root, by_user) * item_weight[by_user.col.long()])
    cols = by_item._replace(value=by_entry(item_weight, by_item) * root[by_item.col.long()])
    values, vectors = leading_eigenpairs(rows, cols, rank)
    rest = min(model.num_users, model.num_items) - rank
    tail = (rows.value.square().sum() - values.sum()).clamp(min=0) / max(rest, 1)
    linear = 1 / (l2 + tail)
    gain = values / (values + l2) - linear * values
    entering = by_user._replace(value=1 / out[by_user.col.long()])
    model.register_buffer("user_vectors", csr_matmul(*entering, vectors * gain))
    model.register_buffer("item_vectors", vectors * out.unsqueeze(1))
    model.register_buffer("user_weight", user_weight)
    model.register_buffer("item_in", item_weight / out)
    model.register_buffer("item_out", linear * item_weight * out)
    own = cols.value.new_zeros(model.num_items)
    own.index_add_(0, entity_of(by_item), cols.value.square())
    return (vectors.square() * gain).sum(1) + linear * own


def low_rank_block(model: Fitted, users: Tensor, items: Tensor) -> Tensor:
    """Scores of some users and items by what :func:`fit_low_rank` registered, ``[b, t]``.

    It needs memory for ``min(b, t) * max(U, I)`` numbers.
    """
    weight, entering = model.get_buffer("user_weight"), model.get_buffer("item_in")
    by_user, by_item = pattern(model, USER), pattern(model, ITEM)
    profiles = by_user._replace(value=entering[by_user.col.long()])
    if len(users) <= len(items):
        everyone = torch.arange(model.num_users, device=users.device)
        shared = product_block(profiles, by_item, users, everyone, model.num_users)
        scores = row_matmul(by_item, items, (shared * weight).t().contiguous()).t()
    else:
        weighted = by_item._replace(value=weight[by_item.col.long()])
        all_items = torch.arange(model.num_items, device=items.device)
        shared = product_block(weighted, by_user, items, all_items, model.num_items)
        scores = row_matmul(profiles, users, shared.t().contiguous())
    vectors = model.get_buffer("user_vectors")[users], model.get_buffer("item_vectors")[items]
    return torch.addmm(scores * model.get_buffer("item_out")[items], vectors[0], vectors[1].t())
