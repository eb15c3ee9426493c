"""Alternating least squares: a strong matrix factorisation in seconds."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count, require_positive
from pyg_kd.functional.sparse import csr_matmul, sampled_matmul
from pyg_kd.graph import Neighbors, interactions
from pyg_kd.knowledge import graph_fingerprint
from pyg_kd.models import MF
from pyg_kd.progress import Progress


class AlternatingLeastSquares:
    r"""Trains a matrix factorisation as in `"Collaborative Filtering for Implicit Feedback
    Datasets" <https://doi.org/10.1109/ICDM.2008.22>`_ (iALS).

    .. math::
        \min_{X, Y} \sum_{u, i} c_{ui} \left(p_{ui} - \langle x_u, y_i \rangle\right)^2
        + \lambda \Big(\sum_u \|x_u\|^2 + \sum_i \|y_i\|^2\Big), \qquad
        c_{ui} = 1 + \alpha p_{ui}

    with :math:`p_{ui} = 1` for interactions and 0 for all other pairs. Given the items, each user
    solves a system of :math:`d` equations,

    .. math::
        \Big(Y^\top Y + \lambda I + \alpha \sum_{i \in N_u} y_i y_i^\top\Big) x_u
        = (1 + \alpha) \sum_{i \in N_u} y_i

    and the other way round. As in `"Applications of the Conjugate Gradient Method for Implicit
    Feedback Collaborative Filtering" <https://doi.org/10.1145/2043932.2043987>`_ a few steps of
    conjugate gradients from the last solution replace the exact one. All users step at once, by
    one dense and two sparse products: an iteration is linear in the edges and runs on any device.

    Args:
        alpha: :math:`\alpha`, the weight of an interaction beyond that of other pairs.
        regularization: :math:`\lambda`.
        iterations: How often users and items are solved for in turn.
        steps: Steps of conjugate gradients for each.
        seed: Seed of the initial vectors.
        progress: Show progress on the standard error stream.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> model = AlternatingLeastSquares(iterations=2, progress=False).fit(MF(data, 4), data)
        >>> model(data)["user"].shape
        torch.Size([20, 4])
    """

    def __init__(
        self,
        *,
        alpha: float = 40.0,
        regularization: float = 10.0,
        iterations: int = 15,
        steps: int = 3,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        require_positive(alpha=alpha, regularization=regularization)
        require_count(iterations=iterations, steps=steps)
        self.alpha, self.regularization = alpha, regularization
        self.iterations, self.steps = iterations, steps
        self.seed, self.progress = seed, progress

    @torch.no_grad()
    def fit(self, model: MF, data: HeteroData) -> MF:
        r"""Compute the tables of a model in place, from initial vectors of its own.

        Args:
            model: The matrix factorisation; its width is that of the vectors.
            data: The training graph, on the device of the model.

        Returns:
            The model.

        Raises:
            TypeError: If ``model`` is no matrix factorisation.
            ValueError: If it was built for another graph, or the graph has no edges.
        """
        if not isinstance(model, MF):
            raise TypeError(f"'model' must be an MF (got {type(model).__name__})")
        model.check_data(data)
        edges = interactions(data)
        sides = edges.by_user(), edges.by_item()
        if not len(sides[0].col):
            raise ValueError("'data' has no interactions to train on")
        user, item = model.user_embedding, model.item_embedding
        generator = torch.Generator().manual_seed(self.seed)
        for table in (user, item):
            table.copy_(torch.randn(table.shape, generator=generator) / 100)
        with Progress("ALS", self.iterations, unit="iteration", shown=self.progress) as progress:
            for _ in range(self.iterations):
                user.copy_(self.solve(sides[0], user, item))
                item.copy_(self.solve(sides[1], item, user))
                progress.update()
        model.fitted_on = graph_fingerprint(data)
        return model

    def solve(self, rows: Neighbors, x: Tensor, y: Tensor) -> Tensor:
        r"""Steps of conjugate gradients towards the solution of every row, given the other side.

        Args:
            rows: The neighbours of every row.
            x: Where to start, ``[n, d]``.
            y: Vectors of the other side, ``[m, d]``.

        Returns:
            ``[n, d]``; zeros for a row without neighbours.
        """
        ptr, col = rows.ptr.to(torch.int32), rows.col.to(torch.int32)
        ones = torch.ones(len(col), dtype=y.dtype, device=y.device)
        total = y.t() @ y
        total.diagonal().add_(self.regularization)
        target = csr_matmul(ptr, col, ones * (1 + self.alpha), y)
        x = x.masked_fill((ptr.diff() == 0).unsqueeze(1), 0.0)

        def times(v: Tensor) -> Tensor:
            """The matrix of every row times its vector."""
            weights = sampled_matmul(ptr, col, v, y).mul_(self.alpha)
            return torch.addmm(csr_matmul(ptr, col, weights, y), v, total)

        residual = target - times(x)
        direction, norm = residual.clone(), residual.square().sum(1, keepdim=True)
        for _ in range(self.steps):
            product = times(direction)
            step = _ratio(norm, (direction * product).sum(1, keepdim=True))
            x = x + step * direction
            residual = residual - step * product
            last, norm = norm, residual.square().sum(1, keepdim=True)
            direction = residual + _ratio(norm, last) * direction
        return x

    def __repr__(self) -> str:
        names = ("alpha", "regularization", "iterations", "steps", "seed")
        options = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        return f"AlternatingLeastSquares({options})"


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """``a / b``, and 0 where a row is solved already."""
    return torch.where(b > 0, a / b, 0.0)
