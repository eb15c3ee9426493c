"""The command ``recommend``."""

from __future__ import annotations

from dataclasses import fields

from pyg_kd.cli.options.recommend import Listed, Wanted
from pyg_kd.cli.options.sharing import Sharing
from pyg_kd.cli.spelling import spelt


def recommend(wanted: Wanted, listed: Listed, sharing: Sharing) -> None:
    """List the best items of users, with the ids that the data had.

    CSV, TSV and Parquet have the columns user, rank, item and score; a JSON line has user, items
    and scores. Lists are written in the order of the users, in parts that survive a crash, and in
    constant memory.
    """
    if listed.shards:
        from pyg_kd.cli.lists.shards import run_shards

        return run_shards(wanted, listed, sharing)
    if sharing != Sharing():
        given = [spelt(f.name) for f in fields(sharing) if getattr(sharing, f.name) != f.default]
        raise ValueError(f"{' and '.join(given)} can only be given with --shards")
    from pyg_kd.cli.lists.job import run_job

    run_job(wanted, listed)
