"""A model with several objectives: its branches, their losses and weights, and its heads."""

from pyg_kd.models.multi_branch.model import MultiBranch

__all__ = ["MultiBranch"]
