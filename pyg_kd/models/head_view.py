"""One head of a model with several, on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch_geometric.data import HeteroData

from pyg_kd.functional.consensus import Head
from pyg_kd.models.base import Recommender
from pyg_kd.typing import ITEM, USER, XDict

if TYPE_CHECKING:
    from pyg_kd.models.multi_branch import MultiBranch


class HeadView(Recommender):
    r"""A head of a :class:`~pyg_kd.models.MultiBranch`, to be evaluated, to teach or to serve.

    Its representations are vectors whose inner products are the scores; for a head of distances
    they have two columns more, see :class:`~pyg_kd.functional.consensus.Head`.

    Args:
        model: The model, which is shared and not copied.
        head: One of ``model.layout``.
    """

    def __init__(self, model: MultiBranch, head: Head) -> None:
        nn.Module.__init__(self)  # no embeddings but those of the model
        self.model, self.head = model, head
        self.num_users, self.num_items, self.dim = model.num_users, model.num_items, model.dim

    def reset_parameters(self) -> None:
        """Draw the parameters of the whole model anew."""
        self.model.reset_parameters()

    @property
    def out_dim(self) -> int:
        """Width of the vectors of the head."""
        return self.head.stop - self.head.start + 2 * (self.head.kind == "distance")

    def forward(self, data: HeteroData) -> XDict:
        """The vectors of the head."""
        x_dict = self.model(data)
        x_user, x_item = self.head.vectors(x_dict[USER], x_dict[ITEM])
        return {USER: x_user, ITEM: x_item}

    def __repr__(self) -> str:
        return f"HeadView({self.model}, {self.head.name!r})"
