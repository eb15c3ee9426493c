"""Online experiments, simulated on a world whose tastes are known."""

from __future__ import annotations

from pyg_kd.study.simulation.clicks import Cascade, ClickModel, PositionBias
from pyg_kd.study.simulation.expected import expected_clicks
from pyg_kd.study.simulation.lists import served_lists
from pyg_kd.study.simulation.log import ClickLog, serve
from pyg_kd.study.simulation.plackett_luce import PlackettLuce
from pyg_kd.study.simulation.policies import EpsilonShuffle, FixedLists, Policy
from pyg_kd.study.simulation.world import TasteWorld

__all__ = [
    "Cascade",
    "ClickLog",
    "ClickModel",
    "EpsilonShuffle",
    "FixedLists",
    "PlackettLuce",
    "Policy",
    "PositionBias",
    "TasteWorld",
    "expected_clicks",
    "serve",
    "served_lists",
]
