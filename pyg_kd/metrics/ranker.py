"""What can be evaluated: anything with representations and scores."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.graph import interactions
from pyg_kd.models.inference import Ranker, represent
from pyg_kd.typing import ITEM, USER

__all__ = ["Ranker", "representations"]


def representations(model: Ranker, data: HeteroData) -> tuple[Tensor, Tensor]:
    r"""Apply a model to a graph, and check what comes out.

    Raises:
        TypeError: If the model has no ``score_block``, or does not return a dictionary of tensors.
        ValueError: If representations are missing, of another size, on another device, or NaN.
    """
    if not callable(getattr(model, "score_block", None)):
        raise TypeError(f"'model' must have a method 'score_block' (got {type(model).__name__})")
    x_dict = represent(model, data, device=interactions(data).edge_index.device)
    return x_dict[USER], x_dict[ITEM]
