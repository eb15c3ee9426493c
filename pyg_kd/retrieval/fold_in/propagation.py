"""What a new node of light graph convolution would receive from its neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

    from pyg_kd.models import Recommender

Array = npt.NDArray[Any]


def propagation_source(model: Recommender, graph: HeteroData) -> Array | None:
    r"""What each item sends to a user who comes to a graph after training.

    With :math:`x_i^{(l)}` the layers of an item, the user's vector in
    :class:`~pyg_kd.models.LightGCN` would be, without an embedding of its own and as long as it
    leaves the items' layers as they are,

    .. math::
        x_u = \frac{1}{\sqrt{|N_u|}} \sum_{i \in N_u} s_i, \qquad
        s_i = \frac{1}{(L + 1) \sqrt{|N_i| + 1}} \sum_{l=0}^{L-1} x_i^{(l)}

    where the user itself is the one more neighbour of an item.

    Args:
        model: A recommender.
        graph: Its training graph.

    Returns:
        :math:`s`, float32 ``[I, d]``, for a LightGCN with one layer or more, else ``None``.
    """
    from pyg_kd.functional.propagate import propagate  # imports torch
    from pyg_kd.graph import interactions
    from pyg_kd.models import LightGCN

    if not isinstance(model, LightGCN) or model.num_layers == 0:
        return None
    layers = model.num_layers
    tables = model.user_embedding.detach(), model.item_embedding.detach()
    _, mean = propagate(*tables, model.adjacency(graph), layers - 1)  # of L layers
    degree = interactions(graph).by_item().degree.to(mean.device) + 1
    sent = mean * (layers / (layers + 1) / degree.sqrt().unsqueeze(1))
    source: Array = sent.float().cpu().numpy()
    return source
