"""A model with several objectives: branches, their losses and weights, and views of its heads."""

from pyg_kd.models.multi_branch.model import MultiBranch

__all__ = ["MultiBranch"]
