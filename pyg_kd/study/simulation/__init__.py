"""Online experiments, simulated on a world whose tastes are known."""

from __future__ import annotations

from pyg_kd.study.simulation.ab import ABResult, ab_test
from pyg_kd.study.simulation.click_rates import RewardModel, fit_click_rates, missing_support
from pyg_kd.study.simulation.clicks import Cascade, ClickModel, PositionBias
from pyg_kd.study.simulation.expected import expected_clicks
from pyg_kd.study.simulation.experiment import Experiment, Outcome, simulate
from pyg_kd.study.simulation.feedback import Week, feedback_loop
from pyg_kd.study.simulation.interleaving import (
    Interleaved,
    Preference,
    interleaving_test,
    team_draft,
)
from pyg_kd.study.simulation.latency import LatencyEffect, measured_latency
from pyg_kd.study.simulation.lists import served_lists
from pyg_kd.study.simulation.log import ClickLog, serve
from pyg_kd.study.simulation.off_policy import OffPolicyResult, off_policy
from pyg_kd.study.simulation.outcomes import Ratio
from pyg_kd.study.simulation.plackett_luce import PlackettLuce
from pyg_kd.study.simulation.policies import EpsilonShuffle, FixedLists, Policy
from pyg_kd.study.simulation.power import (
    Rate,
    aa_check,
    minimum_detectable_effect,
    power_of,
    sample_size,
    simulated_power,
)
from pyg_kd.study.simulation.section import experiment_section, feedback_section
from pyg_kd.study.simulation.sequential import group_sequential_bounds, peeking_error
from pyg_kd.study.simulation.world import TasteWorld

__all__ = [
    "ABResult",
    "Cascade",
    "ClickLog",
    "ClickModel",
    "EpsilonShuffle",
    "Experiment",
    "FixedLists",
    "Interleaved",
    "LatencyEffect",
    "OffPolicyResult",
    "Outcome",
    "PlackettLuce",
    "Policy",
    "PositionBias",
    "Preference",
    "Rate",
    "Ratio",
    "RewardModel",
    "TasteWorld",
    "Week",
    "aa_check",
    "ab_test",
    "expected_clicks",
    "experiment_section",
    "feedback_loop",
    "feedback_section",
    "fit_click_rates",
    "group_sequential_bounds",
    "interleaving_test",
    "measured_latency",
    "minimum_detectable_effect",
    "missing_support",
    "off_policy",
    "peeking_error",
    "power_of",
    "sample_size",
    "serve",
    "served_lists",
    "simulate",
    "simulated_power",
    "team_draft",
]
