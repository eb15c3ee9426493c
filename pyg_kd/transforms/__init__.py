"""Graphs to graphs: the dense core, and the splits."""

from pyg_kd.transforms.k_core import KCore
from pyg_kd.transforms.leave_one_out import LeaveOneOut
from pyg_kd.transforms.temporal_split import TemporalSplit
from pyg_kd.transforms.user_split import UserSplit

__all__ = ["KCore", "LeaveOneOut", "TemporalSplit", "UserSplit"]
