"""The options of the command ``evaluate``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Evaluated:
    """What is evaluated, and on what

    Args:
        model: The folder of a run or of a bundle.
        interactions: Later interactions, a CSV, TSV or Parquet file, to be found; by default those
            that the run has held out. What is known already does not count.
        user: Column of the users; its position from 0 in a file without a header line.
        item: Column of the items.
        k: Lengths of the lists; by default those of the run, or 10, 20 and 50.
        metrics: Out of recall, precision, ndcg, hit_rate, map and mrr; by default those of the
            run, or recall and ndcg.
        progress: Show progress on standard error.
    """

    model: str = field(metadata={"positional": True})
    interactions: str | None = None
    user: str = "user"
    item: str = "item"
    k: list[int] | None = None
    metrics: list[str] | None = None
    progress: bool = True
