"""What ``extract`` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pyg_kd.cli.console import note
from pyg_kd.cli.lists.blocks import read_lines
from pyg_kd.cli.options.extract import Extracted, Shards
from pyg_kd.cli.options.sharing import Sharing
from pyg_kd.cli.pairs import find
from pyg_kd.cli.pipeline.data import raw_ids, read_graphs
from pyg_kd.cli.pipeline.saved import SavedRun
from pyg_kd.knowledge import Listed, extract_shards
from pyg_kd.models import Recommender
from pyg_kd.retrieval import Ids, UnknownId
from pyg_kd.typing import USER


def run_extraction(extracted: Extracted, shards: Shards, sharing: Sharing) -> None:
    """Read the run, and extract."""
    saved = SavedRun.open(extracted.run)
    name = name_of(saved, extracted.model)
    graphs = read_graphs(saved.data)
    model = saved.model(name, graphs)
    out = Path(shards.out).expanduser()
    complete = extract_shards(
        model,
        graphs.train,
        out,
        num_items=length_of(model, extracted.num_items),
        num_users=extracted.num_users,
        users=None if extracted.users is None else users_of(extracted.users, graphs.train),
        rows=shards.part_size,
        vectors=extracted.vectors,
        overwrite=shards.overwrite,
        progress=shards.progress,
        **sharing.arguments,
    )
    note(f"wrote {out}" if complete else f"this share of {out} is done, others are at work")


def name_of(saved: SavedRun, model: str | None) -> str:
    r"""The model that is meant.

    Raises:
        ValueError: If the run has none of that name.
    """
    name = saved.names[0] if model is None else model
    if name not in saved.names:
        raise ValueError(f"'model' must be one of {', '.join(saved.names)} (got {name!r})")
    return name


def length_of(model: Recommender, num_items: int | None) -> int | None:
    r"""The length of the lists; an ensemble has nothing beyond those that it was fused from.

    Raises:
        ValueError: If an ensemble is asked for longer ones.
    """
    if not isinstance(model, Listed):
        return num_items
    most = model.lists.size(1)
    if num_items is not None and num_items > most:
        raise ValueError(f"'num_items' must be at most {most} for this ensemble (got {num_items})")
    return most if num_items is None else num_items


def users_of(path: str, graph: Any) -> list[int]:
    r"""The users of a file, as nodes.

    Raises:
        UnknownId: If one is unknown.
    """
    lines = list(read_lines(path))
    raw, size = raw_ids(graph, USER), int(graph[USER].num_nodes)
    rows = find(lines, Ids(size=size, name=USER) if raw is None else Ids(raw, name=USER))
    if len(rows) and rows.min() < 0:
        line = int(np.argmin(rows))
        raise UnknownId(f"user {line + 1} of '{path}' must be known (got {lines[line]!r})")
    found: list[int] = rows.tolist()
    return found
