"""What can be evaluated: anything with representations and scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.models.inference import represent
from pyg_kd.typing import ITEM, USER, XDict


class Ranker(Protocol):
    """A module whose representations of users and items give scores.

    Every recommender of the package is one.
    """

    def __call__(self, data: HeteroData, /) -> XDict:
        """Return the representations ``[U, d]`` and ``[I, d]``."""

    def score_block(self, x_user: Tensor, x_item: Tensor, /) -> Tensor:
        """Return the scores ``[b, t]`` of ``[b, d]`` users and ``[t, d]`` items."""

    def modules(self) -> Iterator[nn.Module]:
        """Return the module and all modules inside of it."""


def representations(model: Ranker, data: HeteroData) -> tuple[Tensor, Tensor]:
    r"""Apply a model to a graph, and check what comes out.

    Raises:
        TypeError: If the model has no ``score_block``, or returns no dictionary of tensors.
        ValueError: If representations are missing, of another size, or NaN.
    """
    if not callable(getattr(model, "score_block", None)):
        raise TypeError(f"'model' must have a method 'score_block' (got {type(model).__name__})")
    x_dict = represent(model, data)
    return x_dict[USER], x_dict[ITEM]
