"""The command ``latency``."""

from __future__ import annotations

from pyg_kd.cli.options.latency import Shown, Timed


def latency(timed: Timed, shown: Shown) -> None:
    """Time requests from ids of users to ids of items: one user at a time, and in bulk."""
    from pyg_kd.cli.engine.latency import run_latency

    run_latency(timed, shown)
