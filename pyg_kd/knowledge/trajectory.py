"""Teacher -> trajectory: its rankings over the epochs, as graph data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from pyg_kd.knowledge.requirements import graph_fingerprint, model_fingerprint
from pyg_kd.models.base import Recommender
from pyg_kd.models.inference import inference
from pyg_kd.typing import XDict

#: Training edges scored at once: a model may form a row of features for each.
CHUNK = 2**18


@torch.no_grad()
def rank_observed(
    model: Recommender, data: HeteroData, k: int, x_dict: XDict | None = None
) -> Tensor:
    r"""The first ``k`` of each user's training items by a model's score.

    Ties are broken by id, as in the ranking of unobserved items.

    Args:
        model: The model, which scores.
        data: Its training graph.
        k: Length of the lists.
        x_dict: The model's representations, where they have been made already.

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
        raise ValueError(f"{type(model).__name__} gives a training edge a score that is NaN")
    # The last key is the primary one. The edges are sorted by id already.
    order = lexsort([-scores, row])
    place = torch.arange(len(row), device=row.device) - seen.ptr[row]
    ranked = torch.full((edges.num_users, k), -1, dtype=torch.int32, device=row.device)
    kept = place < k
    ranked[row[kept], place[kept]] = seen.col[order][kept].to(torch.int32)
    return ranked


@dataclass(frozen=True)
class Trajectory:
    r"""Rankings of one teacher at ``V`` states, the last of them final.

    Args:
        items: The best ``K`` items that a user has no edge to, in order, int32 ``[U, V, K]``,
            padded with -1.
        observed: The best items that a user has an edge to, in order, int32 ``[U, V, P]`` with
            ``P`` the largest number of them but at most ``K``, padded with -1.
        graph_fingerprint: The fingerprint of the graph.
        teacher_fingerprint: The fingerprint of the teacher in its final state.
    """

    items: Tensor
    observed: Tensor
    graph_fingerprint: str
    teacher_fingerprint: str


class TrajectoryRecorder:
    r"""Keeps the rankings of a teacher while it trains: a callback of the trainer.

    A recorder belongs to one run. Recording takes as long as extracting the rankings does.

    Args:
        epochs: Epochs, from 0, after which rankings are kept. By default after 1, 2, 4, 8, ...
            epochs of training.
        num_items: Length ``K`` of the rankings.
        num_states: Number ``V`` of states, the final one included.

    Raises:
        ValueError: If an option is out of range, or ``epochs`` names fewer than ``num_states``
            needs.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.models import MF
        >>> data = SyntheticInteractions(None, num_users=20, num_items=50, num_edges=80)[0]
        >>> teacher, recorder = MF(data, dim=4), TrajectoryRecorder(num_items=30, num_states=2)
        >>> recorder(0, teacher, data)  # by Trainer().fit(teacher, data, callbacks=[recorder])
        >>> teacher.reset_parameters()  # in place of more training
        >>> recorder.finish(teacher, data).items.shape
        torch.Size([20, 2, 30])
    """

    def __init__(
        self, epochs: Sequence[int] | None = None, *, num_items: int = 100, num_states: int = 4
    ) -> None:
        require_count(num_items=num_items, num_states=num_states)
        if epochs is not None and (len(set(epochs)) < num_states - 1 or min(epochs, default=0) < 0):
            raise ValueError(
                f"'epochs' must name {num_states - 1} epochs or more (got {list(epochs)})"
            )
        self.epochs = None if epochs is None else frozenset(epochs)
        self.num_items, self.num_states = num_items, num_states
        self.states: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, epoch: int, model: Recommender, data: HeteroData) -> None:
        """Keep the rankings, if this is an epoch for it."""
        count = epoch + 1
        doubled = count & (count - 1) == 0
        if doubled if self.epochs is None else epoch in self.epochs:
            self.states[epoch] = rankings(model, data, self.num_items)

    def finish(
        self, model: Recommender, data: HeteroData, *, before: int | None = None
    ) -> Trajectory:
        r"""Rank once more, and return the trajectory.

        Where more early states were kept than needed, evenly spaced ones are chosen, starting
        with the first. A state with the final rankings is left out, such as the last epoch's if
        its weights were kept.

        Args:
            model: The teacher after training.
            data: The graph it was trained on.
            before: Use only states before this epoch. If the best validated weights were
                restored, pass ``history.best_epoch``: later states are not early.

        Raises:
            ValueError: If fewer states were kept than ``num_states`` needs.
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
                f"the trajectory has {len(early)} early states (epochs {early}) and 'num_states' "
                f"needs {num}: record earlier epochs, train longer or use fewer states"
            )
        chosen = [early[i * len(early) // num] for i in range(num)]
        columns = zip(*(self.states[e] for e in chosen), final, strict=True)
        items, observed = (torch.stack([s.to(c[-1].device) for s in c], 1) for c in columns)
        return Trajectory(items, observed, graph_fingerprint(data), model_fingerprint(model))


def rankings(model: Recommender, data: HeteroData, num_items: int) -> tuple[Tensor, Tensor]:
    r"""What a model ranks first now, among unobserved and among observed items.

    Returns:
        int32 ``[U, num_items]`` and, for the largest number of observed items of a user but no
        more than ``num_items``, ``[U, P]``, padded with -1.
    """
    check_teacher(model, data)
    seen = interactions(data).by_user()
    check_length("num_items", num_items, model.num_items)
    x_dict = finite_representations(model, data)
    ranked = rank_items(model, x_dict, seen, num_items)
    return ranked, rank_observed(model, data, min(int(seen.degree.max()), num_items), x_dict)
