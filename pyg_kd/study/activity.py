"""The users of a study by how active they are, kept beside its runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData

from pyg_kd.evaluation import Groups, activity_groups
from pyg_kd.evaluation.full_ranking import PerUser
from pyg_kd.study.records import read_users, write_users
from pyg_kd.typing import USER

GROUP = "group"


def write_activity(folder: Path, dataset: str, data: HeteroData) -> dict[str, Any]:
    r"""Write to which quarter by activity each user belongs.

    Args:
        folder: The folder of the study.
        dataset: The digest of the data set's split.
        data: The training graph.

    Returns:
        What :func:`read_activity` needs: the file, its digest, and the names of the groups.
    """
    groups = activity_groups(data)
    file = f"activity-{dataset[:16]}.parquet"
    users = torch.arange(len(groups.of), device=groups.of.device)
    digest = write_users(folder / file, PerUser({}, {GROUP: groups.of}, users))
    return {"file": file, "sha256": digest, "names": list(groups.names)}


def read_activity(folder: Path, about: dict[str, Any]) -> Groups:
    r"""Read what :func:`write_activity` wrote.

    Args:
        folder: The folder of the study.
        about: What it returned.

    Raises:
        ValueError: If the file is missing or damaged.
    """
    found = read_users(folder / about["file"], about["sha256"])
    return Groups(USER, tuple(about["names"]), found.values[GROUP].long())
