"""What ``recommend --shards`` does: lists in a folder of files, made by several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyg_kd.checks import require_count
from pyg_kd.cli.console import note, warn
from pyg_kd.cli.lists.blocks import AllUsers, Source, source_of
from pyg_kd.cli.lists.job import Ranking, refuse_streams
from pyg_kd.cli.options.recommend import Listed, Wanted
from pyg_kd.cli.options.sharing import Sharing
from pyg_kd.retrieval import load_student
from pyg_kd.retrieval.shards import write_list_shards


def run_shards(wanted: Wanted, listed: Listed, sharing: Sharing) -> None:
    """List, and write."""
    require_count(k=wanted.k, part_size=listed.part_size, workers=sharing.workers)
    if listed.out == "-":
        raise ValueError("'out' must be a folder for --shards (got '-')")
    refuse_streams(wanted)
    index = load_student(wanted.bundle, verify=listed.verify, backend=listed.backend)
    source, ranking = source_of(wanted, index), Ranking(index, wanted)
    source.check()
    if source.skipped and wanted.unknown == "skip":
        warn(f"{source.skipped:,} of {source.total:,} users are unknown, and skipped")
    out = Path(listed.out).expanduser()
    complete = write_list_shards(
        wanted.bundle,
        out,
        wanted.k,
        **users_of(source, listed.part_size),
        **ranking.options,
        unknown="popular" if wanted.unknown == "popular" else "raise",
        backend=listed.backend,
        rows=listed.part_size,
        overwrite=listed.overwrite,
        progress=listed.progress,
        **sharing.arguments,
    )
    note(f"wrote {out}" if complete else f"this share of {out} is done, others are at work")


def users_of(source: Source, size: int) -> dict[str, Any]:
    """Users, and of new ones the items; nothing where all users are wanted."""
    if isinstance(source, AllUsers):
        return {}
    blocks = list(source.blocks(size))
    users = [user for block in blocks for user in block.users]
    if not blocks or blocks[0].histories is None:
        return {"users": users}
    return {"users": users, "histories": [h for block in blocks for h in block.histories or ()]}
