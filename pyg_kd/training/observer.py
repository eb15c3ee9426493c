"""A callback whose measurements become columns of the history."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch_geometric.data import HeteroData

from pyg_kd.models.base import Recommender
from pyg_kd.training.objective import Objective


class Observer(ABC):
    """Looks at the whole objective after an epoch, losses and methods included.

    In a list of callbacks the trainer calls :meth:`observe` and adds what it returns to the row of
    the epoch. It must leave weights, buffers and gradients as they are.
    """

    @abstractmethod
    def observe(self, epoch: int, objective: Objective, data: HeteroData) -> dict[str, float]:
        """Measure, with the model in evaluation mode and without gradients.

        Args:
            epoch: The epoch that has ended, from 0.
            objective: The model, its base loss and its methods.
            data: The training graph with its knowledge, on the device of the model.

        Returns:
            Values by the names of their columns.
        """

    def __call__(self, epoch: int, model: Recommender, data: HeteroData) -> dict[str, float]:
        """:meth:`observe` of a model without methods: for loops of your own."""
        return self.observe(epoch, Objective(model, None), data)
