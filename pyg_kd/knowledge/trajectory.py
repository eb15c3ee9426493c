"""Trajectories: a teacher's rankings at several epochs of its training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import index
from reprlib import repr as shortened

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils import lexsort

from pyg_kd.checks import require_count
from pyg_kd.graph import interactions
from pyg_kd.knowledge.extraction import (
    check_length,
    check_teacher,
    finite_representations,
    rank_items,
)
from pyg_kd.knowledge.requirements import graph_fingerprint, source_fingerprint
from pyg_kd.models.base import Recommender
from pyg_kd.models.inference import inference
from pyg_kd.typing import XDict

#: Training edges scored at once: a model may compute a row of features for each.
CHUNK = 2**18


@torch.no_grad()
def rank_observed(
    model: Recommender, data: HeteroData, k: int, x_dict: XDict | None = None
) -> Tensor:
    r"""Each user's top ``k`` training items by a model's score.

    Ties are broken by id, as in the ranking of unseen items.

    Args:
        model: The model.
        data: Its training graph.
        k: Length of the lists.
        x_dict: The model's representations, if already computed.

    Returns:
        Item ids, int32 ``[U, k]``, padded with -1.

    Raises:
        ValueError: If a score is NaN.
    """
    edges = interactions(data)
    seen = edges.by_user()
    row = seen.row
    with inference(model):
        x_dict = model(data) if x_dict is None else x_dict
        parts = torch.stack([row, seen.col]).split(CHUNK, dim=1)
        scores = torch.cat([model.score(x_dict, part) for part in parts])
    if bool(scores.isnan().any()):
        raise ValueError(f"{type(model).__name__} scores a training edge as NaN")
    # The last key is the primary one. The edges are sorted by id already.
    order = lexsort([-scores, row])
    place = torch.arange(len(row), device=row.device) - seen.ptr[row]
    ranked = torch.full((edges.num_users, k), -1, dtype=torch.int32, device=row.device)
    kept = place < k
    ranked[row[kept], place[kept]] = seen.col[order][kept].to(torch.int32)
    return ranked


@dataclass(frozen=True)
class Trajectory:
    r"""Rankings of one teacher at ``V`` states of its training, the final one last.

    Args:
        items: Each user's top ``K`` unseen items, best first, int32 ``[U, V, K]``, padded
            with -1.
        observed: Each user's training items, best first, int32 ``[U, V, P]``, padded with -1.
            ``P`` is the largest number of them of any user, but at most ``K``.
        graph_fingerprint: The fingerprint of the graph.
        teacher_fingerprint: The fingerprint of the teacher in its final state.
    """

    items: Tensor
    observed: Tensor
    graph_fingerprint: str
    teacher_fingerprint: str


class TrajectoryRecorder:
    r"""A trainer callback that records a teacher's rankings during training.

    A recorder serves one run at a time: states of an earlier run are dropped when a new one
    begins. Recording a state takes as long as extracting the rankings.

    Args:
        epochs: Epochs, counted from 0, after which rankings are recorded. By default after 1, 2,
            4, 8, ... epochs of training.
        num_items: Length ``K`` of the rankings.
        num_states: Number ``V`` of states, including the final one.

    Raises:
        TypeError: If ``epochs`` are not integers.
        ValueError: If an option is out of range, or ``epochs`` has fewer than
            ``num_states - 1`` entries.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.models import MF
        >>> data = SyntheticInteractions(None, num_users=20, num_items=50, num_edges=80)[0]
        >>> teacher, recorder = MF(data, dim=4), TrajectoryRecorder(num_items=30, num_states=2)
        >>> recorder(0, teacher, data)  # as Trainer().fit(..., callbacks=[recorder]) does
        >>> teacher.reset_parameters()  # stands for more training
        >>> recorder.finish(teacher, data).items.shape
        torch.Size([20, 2, 30])
    """

    def __init__(
        self, epochs: Iterable[int] | None = None, *, num_items: int = 100, num_states: int = 4
    ) -> None:
        require_count(num_items=num_items, num_states=num_states)
        self.epochs = None if epochs is None else _epochs(epochs, num_states - 1)
        self.num_items, self.num_states = num_items, num_states
        self.states: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, epoch: int, model: Recommender, data: HeteroData) -> None:
        """Record the rankings, if this epoch is one to record."""
        # Epochs start again with another run, whose trajectory must have no state of this one.
        self.states = {e: state for e, state in self.states.items() if e < epoch}
        count = epoch + 1
        power_of_two = count & (count - 1) == 0
        if power_of_two if self.epochs is None else epoch in self.epochs:
            self.states[epoch] = rankings(model, data, self.num_items)

    def finish(
        self, model: Recommender, data: HeteroData, *, before: int | None = None
    ) -> Trajectory:
        r"""Rank once more, and return the trajectory.

        If more early states were recorded than needed, evenly spaced ones are chosen, starting
        with the first. A state equal to the final one is left out, such as that of the last epoch
        if its weights were kept.

        Args:
            model: The teacher after training.
            data: The graph it was trained on.
            before: Use only states recorded before this epoch. If the best validated weights
                were restored, pass ``history.best_epoch``, so that no state is later than those.

        Returns:
            The trajectory, whose last state is the model as it is now.

        Raises:
            ValueError: If fewer states were recorded than ``num_states`` needs.
        """
        final = rankings(model, data, self.num_items)
        early = [
            e
            for e, (items, _) in sorted(self.states.items())
            if (before is None or e < before) and not torch.equal(items, final[0])
        ]
        num = self.num_states - 1
        if len(early) < num:
            raise ValueError(
                f"the trajectory has {len(early)} early states (epochs {early}), but 'num_states' "
                f"needs {num}: record earlier epochs, train longer or use fewer states"
            )
        chosen = [early[i * len(early) // num] for i in range(num)]
        columns = zip(*(self.states[e] for e in chosen), final, strict=True)
        items, observed = (torch.stack([s.to(c[-1].device) for s in c], 1) for c in columns)
        return Trajectory(items, observed, graph_fingerprint(data), source_fingerprint(model, data))


def _epochs(epochs: Iterable[int], least: int) -> frozenset[int]:
    """Distinct epochs, checked; plain integers, as which a tensor's entries are not found."""
    try:
        given = [index(epoch) for epoch in epochs]
    except TypeError as error:
        raise TypeError(f"'epochs' must be integers (got {shortened(epochs)})") from error
    if len(set(given)) < least or min(given, default=0) < 0:
        raise ValueError(f"'epochs' must be at least {least} epochs from 0 (got {given})")
    return frozenset(given)


def rankings(model: Recommender, data: HeteroData, num_items: int) -> tuple[Tensor, Tensor]:
    r"""A model's current rankings of unseen and of observed items.

    Returns:
        Unseen items, int32 ``[U, num_items]``, and observed items, int32 ``[U, P]``, both padded
        with -1. ``P`` is the largest number of observed items of a user, but at most
        ``num_items``.
    """
    check_teacher(model, data)
    seen = interactions(data).by_user()
    check_length("num_items", num_items, model.num_items)
    x_dict = finite_representations(model, data)
    ranked = rank_items(model, x_dict, seen, num_items)
    return ranked, rank_observed(model, data, min(int(seen.degree.max()), num_items), x_dict)
