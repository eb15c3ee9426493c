"""The command ``recommend``."""

from __future__ import annotations

from pyg_kd.cli.options.recommend import Listed, Wanted


def recommend(wanted: Wanted, listed: Listed) -> None:
    """List the best items of users, with the ids that the data had.

    CSV, TSV and Parquet have the columns user, rank, item and score; a JSON line has user, items
    and scores. Lists are written in the order of the users, in parts that survive a crash, and in
    constant memory.
    """
    from pyg_kd.cli.lists.job import run_job

    run_job(wanted, listed)
