"""How good a recommender's rankings are."""

from __future__ import annotations

from pyg_kd.evaluation.full_ranking import PerUser, evaluate
from pyg_kd.evaluation.leaderboard import Leaderboard
from pyg_kd.evaluation.sampled import evaluate_sampled
from pyg_kd.evaluation.significance import Comparison, compare

__all__ = ["evaluate", "evaluate_sampled", "compare", "Comparison", "Leaderboard", "PerUser"]
