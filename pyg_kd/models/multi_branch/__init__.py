"""A model with several objectives: its branches, losses, weights and views of its heads."""

from pyg_kd.models.multi_branch.model import MultiBranch

__all__ = ["MultiBranch"]
