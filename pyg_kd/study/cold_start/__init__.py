"""Cold start: users and items that came after training."""

from pyg_kd.study.cold_start.split import ColdSplit, cold_split
from pyg_kd.study.cold_start.tables import cold_start, k_shot

__all__ = ["ColdSplit", "cold_split", "cold_start", "k_shot"]
