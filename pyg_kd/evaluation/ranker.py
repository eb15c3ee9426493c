"""What can be evaluated: anything with representations and scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.functional.task import Task
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


def representations(model: Ranker, data: HeteroData, task: Task) -> tuple[Tensor, Tensor]:
    r"""Apply a model to a graph, and check what comes out.

    Raises:
        TypeError: If the model has no ``score_block``.
        ValueError: If representations are missing, of another size, or NaN.
    """
    if not callable(getattr(model, "score_block", None)):
        raise TypeError(f"'model' must have a method 'score_block' (got {type(model).__name__})")
    x_dict = model(data)
    for node_type, size in ((USER, task.num_users), (ITEM, task.num_items)):
        if node_type not in x_dict:
            raise ValueError(f"'model' returned no representations of {node_type!r}")
        x = x_dict[node_type]
        if x.size(0) != size:
            raise ValueError(
                f"'model' must return {size} representations of {node_type!r} (got {x.size(0)})"
            )
        if x.isnan().any():
            raise ValueError(f"'model' returned representations of {node_type!r} that are NaN")
    return x_dict[USER], x_dict[ITEM]
