"""Collaborative metric learning."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_positive
from pyg_kd.functional.edge_scores import edge_scores
from pyg_kd.functional.sparse import gather_rows
from pyg_kd.models.base import Recommender
from pyg_kd.models.layers import unit_ball
from pyg_kd.typing import ITEM, USER, Batch, XDict


class CML(Recommender):
    r"""The metric model of `"Collaborative Metric Learning"
    <https://doi.org/10.1145/3038912.3052639>`_.

    Users and items are points in the unit ball, and items are pulled towards their users:

    .. math::
        x = \frac{e}{\max(1, \|e\|)}, \qquad s_{ui} = -\|x_u - x_i\|^2, \qquad
        L = \sum_{(u, p, n)} \max\left(0,\; m + \|x_u - x_p\|^2 - \|x_u - x_n\|^2\right)

    The paper projects vectors into the ball after every step; here they are clipped when they
    are used. Only the hinge loss of its objective is implemented, without the weights by
    estimated rank (WARP), the covariance penalty and the item features. Each negative of an
    interaction forms its own triple.

    Args:
        data: The training graph.
        dim: Width of the embeddings.
        margin: The margin :math:`m`; squared distances are at most 4.
        init_std: Standard deviation of the initial embeddings.

    Raises:
        ValueError: If ``margin`` is not positive.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> model = CML(data, dim=4, margin=0.5)
        >>> model
        CML(20, 10, dim=4, margin=0.5)
        >>> model.score(model(data), data["user", "item"].edge_index).max() <= 0
        tensor(True)
    """

    default_loss: ClassVar[str] = "own"
    inner_product: ClassVar[bool] = False

    def __init__(
        self, data: HeteroData, dim: int, *, margin: float = 1.0, init_std: float = 0.01
    ) -> None:
        super().__init__(data, dim, init_std)
        require_positive(margin=margin)
        self.margin = margin

    def forward(self, data: HeteroData) -> XDict:
        """The embeddings, clipped to the unit ball."""
        self.check_data(data)
        return {USER: unit_ball(self.user_embedding), ITEM: unit_ball(self.item_embedding)}

    def own_loss(self, x_dict: XDict, data: HeteroData, batch: Batch) -> Tensor:
        """The hinge loss of the batch's triples."""
        x_user = gather_rows(x_dict[USER], batch.user).unsqueeze(1)
        # One lookup for positives and negatives, so that the table gets a single gradient.
        x_item = gather_rows(x_dict[ITEM], batch.candidates)
        distance = (x_user - x_item).square().sum(2)
        return (self.margin + distance[:, :1] - distance[:, 1:]).relu().sum()

    def score(self, x_dict: XDict, edge_index: Tensor) -> Tensor:
        """Negative squared distances of user-item pairs, ``[E]``."""
        product = edge_scores(x_dict[USER], x_dict[ITEM], edge_index)
        x_square = [x_dict[node_type].square().sum(1) for node_type in (USER, ITEM)]
        square = x_square[0][edge_index[0]] + x_square[1][edge_index[1]]
        return (2 * product - square).clamp(max=0)

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        """Negative squared distances of every pair, ``[b, t]``."""
        square = x_item.square().sum(1).unsqueeze(0)
        scores = torch.addmm(-square, x_user, x_item.t(), alpha=2)
        return scores.sub_(x_user.square().sum(1, keepdim=True)).clamp_(max=0)

    def __repr__(self) -> str:
        return super().__repr__()[:-1] + f", margin={self.margin})"
