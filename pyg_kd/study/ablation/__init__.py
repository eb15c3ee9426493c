"""Ablation: what each component of a method contributes to its gain."""

from pyg_kd.study.ablation.config import ablation_rows, expand_ablation
from pyg_kd.study.ablation.effects import Ablation, Effect, ablate

__all__ = ["Ablation", "Effect", "ablate", "ablation_rows", "expand_ablation"]
