"""Lists of a student as they are served, beside those of its teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch_geometric.data import HeteroData

from pyg_kd.retrieval import load_student


def print_lists(bundle: Path, graph: HeteroData, k: int = 10) -> None:
    """Print the lists of two users; items that are in both are marked.

    Args:
        bundle: The student's bundle.
        graph: The graph with the teacher's lists.
        k: Length of the lists.
    """
    index = load_student(bundle)
    ids = index.items.take(np.arange(index.num_items)).tolist()
    titles = graph["item"].get("title") or [f"item {i}" for i in ids]
    place = {item: row for row, item in enumerate(ids)}
    for row in (0, index.num_users // 2):
        user = index.users.take(np.array([row]))[0]
        theirs = graph["user"].teacher_items[row, :k].tolist()
        mine = [place[item] for item in index.search([user], k)[0][0].tolist()]
        common = set(theirs) & set(mine)
        print(f"\nuser {user}: {len(common)} of {k} in common\n{'teacher':39} student")
        for pair in zip(theirs, mine, strict=True):
            cells = [f"{'=' if item in common else ' '} {titles[item]:.36}" for item in pair]
            print(f"{cells[0]:39} {cells[1]}".rstrip())
