"""The options that several commands share, each group a dataclass."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pyg_kd.checks import require_seed

#: Named data sets, besides files.
DATASETS = ("gowalla", "yelp2018", "amazon-book", "movielens-100k", "citeulike", "synthetic")

ModelName = Literal["lightgcn", "mf", "ngcf", "cml", "neumf", "multvae", "itemae", "gfcf", "ease"]
SplitName = Literal["user", "leave-one-out", "temporal"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "float16", "int8", "int4"]


@dataclass(frozen=True)
class Data:
    """The interactions, and how they are split

    Args:
        interactions: A CSV, TSV, DAT or Parquet file with one interaction a line, or a data set:
            gowalla, yelp2018, amazon-book, movielens-100k, citeulike, synthetic.
        user: Column of the users; its position from 0 in a file without a header line.
        item: Column of the items.
        time: Column of the times; needed by --split temporal, and used by leave-one-out.
        root: Folder of a named data set; by default $PYG_KD_DATA or data/.
        k_core: Keep users and items with at least so many interactions.
        split: How test and validation interactions are chosen: a share of each user's at random,
            one of each user (the latest, if there are times), or the latest of all.
        val: Share of the interactions to validate on.
        test: Share of the interactions to test on.
        split_seed: Seed of a random split.
    """

    interactions: str = field(metadata={"positional": True})
    user: str = "user"
    item: str = "item"
    time: str | None = None
    root: str | None = None
    k_core: int | None = None
    split: SplitName = "user"
    val: float = 0.1
    test: float = 0.1
    split_seed: int = 0

    def __post_init__(self) -> None:
        require_seed(split_seed=self.split_seed)
        if self.split == "temporal" and self.time is None and self.interactions not in DATASETS:
            raise ValueError("'split' temporal needs 'time', the column of the times: --time NAME")


@dataclass(frozen=True)
class Output:
    """The result

    Args:
        out: Folder of the run. An interrupted run with the same options is continued.
        overwrite: Replace a run that is there already.
    """

    out: str
    overwrite: bool = False


@dataclass(frozen=True)
class Machine:
    """Where and how it runs

    Args:
        seed: Seed of the first weights and of training.
        device: Where to train; auto takes a GPU if there is one.
        threads: Threads of PyTorch; its own choice by default.
        progress: Show progress on standard error.
    """

    seed: int = 0
    device: Device = "auto"
    threads: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        require_seed(seed=self.seed)


@dataclass(frozen=True)
class Metrics:
    """What is measured

    Args:
        k: Lengths of the lists, shortened to the catalogue if that is smaller.
        metrics: Out of recall, precision, ndcg, hit_rate, map and mrr.
    """

    k: list[int] = field(default_factory=lambda: [10, 20, 50])
    metrics: list[str] = field(default_factory=lambda: ["recall", "ndcg"])


@dataclass(frozen=True)
class Bundle:
    """What is served

    Args:
        bundle: Write OUT/bundle, which recommend, serve and export take.
        dtype: Precision of its tables.
        refit: Train once more on all interactions, those that were held out as well, for as many
            epochs as were best, and serve that. It cannot be measured.
    """

    bundle: bool = True
    dtype: Precision = "float32"
    refit: bool = False


def flat(*groups: Any) -> dict[str, Any]:
    """The options of some groups, by name.

    Example:
        >>> flat(Bundle(dtype="int8"))
        {'bundle': True, 'dtype': 'int8', 'refit': False}
    """
    return {key: value for group in groups for key, value in asdict(group).items()}
