"""Views of students and teachers that several pages draw."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from figures import BLUE, GREY, ORANGE
from matplotlib.axes import Axes
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.models import Recommender

COLOR_OF = {"teacher": ORANGE, "alone": GREY, "distilled": BLUE}


def vectors(model: Recommender, graph: HeteroData) -> dict[str, Tensor]:
    """The representations of a model, as constants."""
    model.eval()
    return {node_type: x.detach() for node_type, x in model(graph).items()}


def scores_by_rank(
    axes: Axes, models: Mapping[str, Recommender], graph: HeteroData, side: str = "user"
) -> None:
    """How high models score what the teacher lists, in deviations, by the teacher's rank."""
    other, lists = {"user": ("item", "teacher_items"), "item": ("user", "teacher_users")}[side]
    listed = graph[side][lists].long()
    for name, model in models.items():
        x = vectors(model, graph)
        scores = x[side] @ x[other].T
        scores = (scores - scores.mean(1, keepdim=True)) / scores.std(1, keepdim=True)
        there = torch.where(listed >= 0, scores.gather(1, listed.clamp(min=0)), torch.nan)
        axes.plot(there.nanmean(0), color=COLOR_OF.get(name), label=name)
    axes.set(xlabel="rank by the teacher", ylabel="score in deviations", title=f"mean over {side}s")
    axes.legend()
