"""Graphs to graphs: any graph to the user-item graph, the dense core, splits, blocks of time."""

from pyg_kd.transforms.k_core import KCore
from pyg_kd.transforms.leave_one_out import LeaveOneOut
from pyg_kd.transforms.temporal_split import TemporalSplit
from pyg_kd.transforms.time_blocks import TimeBlocks, TimeStep
from pyg_kd.transforms.user_item import UserItem
from pyg_kd.transforms.user_split import UserSplit

__all__ = [
    "KCore",
    "LeaveOneOut",
    "TemporalSplit",
    "TimeBlocks",
    "TimeStep",
    "UserItem",
    "UserSplit",
]
