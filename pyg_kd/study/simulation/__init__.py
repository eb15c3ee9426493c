"""Online experiments, simulated on a world whose tastes are known."""

from __future__ import annotations

from pyg_kd.study.simulation.ab import ABResult, ab_test
from pyg_kd.study.simulation.clicks import Cascade, ClickModel, PositionBias
from pyg_kd.study.simulation.expected import expected_clicks
from pyg_kd.study.simulation.lists import served_lists
from pyg_kd.study.simulation.log import ClickLog, serve
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
from pyg_kd.study.simulation.sequential import group_sequential_bounds, peeking_error
from pyg_kd.study.simulation.world import TasteWorld

__all__ = [
    "ABResult",
    "Cascade",
    "ClickLog",
    "ClickModel",
    "EpsilonShuffle",
    "FixedLists",
    "PlackettLuce",
    "Policy",
    "PositionBias",
    "Rate",
    "Ratio",
    "TasteWorld",
    "aa_check",
    "ab_test",
    "expected_clicks",
    "group_sequential_bounds",
    "minimum_detectable_effect",
    "peeking_error",
    "power_of",
    "sample_size",
    "serve",
    "served_lists",
    "simulated_power",
]
