"""Tuning: the settings of one student, on the user's own data, within minutes."""

from pyg_kd.study.tuning.figure import tuning_section
from pyg_kd.study.tuning.search import search
from pyg_kd.study.tuning.space import Range, ranges
from pyg_kd.study.tuning.student import tune
from pyg_kd.study.tuning.trials import Trial, Tuning

__all__ = ["Range", "Trial", "Tuning", "ranges", "search", "tune", "tuning_section"]
