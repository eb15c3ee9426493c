"""Sections of a report: slices, popularity bias, diagnostics and sweeps."""

from pyg_kd.study.insight.bias import bias_section
from pyg_kd.study.insight.of_study import costs_section, study_slices
from pyg_kd.study.insight.slices import slices_section
from pyg_kd.study.insight.sweep import sweep_section
from pyg_kd.study.insight.training import diagnostics_section, teacher_section

__all__ = [
    "bias_section",
    "costs_section",
    "diagnostics_section",
    "slices_section",
    "study_slices",
    "sweep_section",
    "teacher_section",
]
