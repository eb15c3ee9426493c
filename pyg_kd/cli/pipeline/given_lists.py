"""Lists of a model elsewhere against what is held out here: left out of them, or known to it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.cli.pipeline.data import Graphs
from pyg_kd.graph import interactions
from pyg_kd.knowledge.confidence import trusted_lists
from pyg_kd.typing import INTERACTS

#: From so large a share at the head of its lists on, a model must have seen what is held out.
SEEN = 0.9

#: Held-out interactions looked for at once.
AT_ONCE = 1 << 16


class Found(NamedTuple):
    """How many interactions there are to find, and the shares that lists hold, and begin with."""

    total: int
    held: float
    first: float


def doubts(path: str, lists: HeteroData, graphs: Graphs) -> list[str]:
    r"""Why lists may be worth nothing as a teacher, or what is measured of it.

    Args:
        path: The file that they are from.
        lists: The training graph with them.
        graphs: The data.
    """
    held_out = {"validation": graphs.val, "test": graphs.test}
    targets = {
        name: graph[INTERACTS].edge_label_index
        for name, graph in held_out.items()
        if graph is not None
    }
    found = {name: look_for(pairs, lists, targets) for name, pairs in targets.items()}
    without = [f"{it.total:,} {name}" for name, it in found.items() if it.total and not it.held]
    known = [f"{it.first:.0%} of the {name}" for name, it in found.items() if it.first >= SEEN]
    messages = []
    if without:
        messages.append(
            f"the lists in '{path}' hold none of the {' and '.join(without)} interactions of their "
            "users: lists of a teacher must not leave out what is held out here, as those of "
            "'recommend' do unless it is given --no-exclude-seen"
        )
    if known:
        messages.append(
            f"the lists in '{path}' begin with {' and '.join(known)} interactions of their users: "
            "a model that has seen what is held out here is no fair teacher, and what is measured "
            "says nothing"
        )
    return messages


def look_for(pairs: Tensor, lists: HeteroData, targets: dict[str, Tensor]) -> Found:
    r"""Look for interactions in the lists of their users.

    A list begins with an interaction that is among its first :math:`n` places, if :math:`n` of its
    user are held out in all. Users who could have found most of theirs by chance don't count there.

    Args:
        pairs: The interactions, int64 ``[2, E]``. Those of users without a list don't count.
        lists: The training graph with ``teacher_items``.
        targets: All that is held out, each int64 ``[2, E]``.
    """
    items, edges = trusted_lists(lists)[0], interactions(lists)
    counts = torch.cat([found[0] for found in targets.values()]).bincount(minlength=len(items))
    fair = 2 * counts <= edges.num_items - edges.by_user().degree
    pairs = pairs[:, items[pairs[0], 0] >= 0]
    held, first, judged = 0, 0, int(fair[pairs[0]].sum())
    for user, item in zip(*(side.split(AT_ONCE) for side in pairs), strict=True):
        hit = items[user] == item.unsqueeze(1)
        there = hit.any(1)
        held += int(there.sum())
        ahead = hit.int().argmax(1) < counts[user]
        first += int((there & ahead & fair[user]).sum())
    total = pairs.size(1)
    return Found(total, held / max(total, 1), first / max(judged, 1))
