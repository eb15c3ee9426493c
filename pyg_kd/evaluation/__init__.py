"""How good a recommender's rankings are."""

from __future__ import annotations

from pyg_kd.evaluation.closed_gap import GapClosed, gap_closed
from pyg_kd.evaluation.full_ranking import PerUser, evaluate
from pyg_kd.evaluation.leaderboard import Leaderboard
from pyg_kd.evaluation.mean_interval import MeanInterval, mean_intervals
from pyg_kd.evaluation.popularity_bias import PopularityBias, list_bias, popularity_bias
from pyg_kd.evaluation.runs_comparison import RunsComparison, compare_runs
from pyg_kd.evaluation.sampled import evaluate_sampled
from pyg_kd.evaluation.significance import Comparison, compare, holm
from pyg_kd.evaluation.slice_groups import (
    Groups,
    activity_groups,
    cluster_groups,
    popularity_groups,
)
from pyg_kd.evaluation.slice_table import Slice, SliceTable
from pyg_kd.evaluation.slicing import slice_targets, slice_users, slices
from pyg_kd.evaluation.target_ranks import TargetRanks, target_ranks

__all__ = [
    "evaluate",
    "evaluate_sampled",
    "compare",
    "compare_runs",
    "Comparison",
    "RunsComparison",
    "gap_closed",
    "GapClosed",
    "mean_intervals",
    "MeanInterval",
    "holm",
    "Groups",
    "activity_groups",
    "cluster_groups",
    "popularity_groups",
    "Slice",
    "SliceTable",
    "slice_targets",
    "slice_users",
    "slices",
    "TargetRanks",
    "target_ranks",
    "PopularityBias",
    "list_bias",
    "popularity_bias",
    "Leaderboard",
    "PerUser",
]
