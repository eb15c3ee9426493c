"""Ablation: what each component of a method contributes to its gain."""

from pyg_kd.study.ablation.config import ablation_rows, expand_ablation
from pyg_kd.study.ablation.effects import Ablation, Effect, ablate
from pyg_kd.study.ablation.results import (
    ablation_from_json,
    ablation_of,
    ablation_sections,
    ablation_to_json,
)
from pyg_kd.study.ablation.section import ablation_section

__all__ = [
    "Ablation",
    "Effect",
    "ablate",
    "ablation_from_json",
    "ablation_of",
    "ablation_rows",
    "ablation_section",
    "ablation_sections",
    "ablation_to_json",
    "expand_ablation",
]
