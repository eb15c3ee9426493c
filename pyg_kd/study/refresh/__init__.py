"""Policies of refreshing a student when new interactions come, and what each gains and costs."""

from pyg_kd.study.refresh.newcomers import folded
from pyg_kd.study.refresh.policies import (
    POLICIES,
    DistilAgain,
    FineTune,
    FoldInOnly,
    Never,
    NewTeacher,
)
from pyg_kd.study.refresh.recipe import NamedTeacher, Recipe, SoftLabelStudent
from pyg_kd.study.refresh.report import RefreshReport
from pyg_kd.study.refresh.run import run_refresh
from pyg_kd.study.refresh.section import refresh_section
from pyg_kd.study.refresh.summary import Row, forgetting, harmonic_mean
from pyg_kd.study.refresh.tables import Lists, Tables
from pyg_kd.study.refresh.task import Served, Task

__all__ = [
    "DistilAgain",
    "FineTune",
    "FoldInOnly",
    "Lists",
    "NamedTeacher",
    "Never",
    "NewTeacher",
    "POLICIES",
    "Recipe",
    "RefreshReport",
    "Row",
    "Served",
    "SoftLabelStudent",
    "Tables",
    "Task",
    "folded",
    "forgetting",
    "harmonic_mean",
    "refresh_section",
    "run_refresh",
]
