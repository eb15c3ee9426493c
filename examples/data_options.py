"""Options of the examples that name the data, and the graphs that they mean."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from torch_geometric.data import HeteroData

from pyg_kd.datasets import Gowalla, MovieLens100K, SyntheticInteractions
from pyg_kd.transforms import UserSplit

#: The class of each data set, and the usual name of its folder.
DATASETS = {"gowalla": (Gowalla, "gowalla"), "movielens-100k": (MovieLens100K, "ml-100k")}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--dataset", default="gowalla", choices=[*DATASETS, "synthetic"])
    parser.add_argument("--root", help="folder of the data set (default: $PYG_KD_DATA or data/)")
    parser.add_argument(
        "--strict", action="store_true", help="fail instead of falling back to synthetic data"
    )


def load(args: argparse.Namespace) -> tuple[str, HeteroData, HeteroData, HeteroData]:
    """The name of the data, and its training, validation and test graph."""
    label, data = args.dataset, None
    if label in DATASETS:
        kind, folder = DATASETS[label]
        root = args.root or Path(os.environ.get("PYG_KD_DATA", "data")) / folder
        try:
            data = kind(str(root))[0]
        except OSError as error:
            if args.strict:
                raise SystemExit(f"{label} is unavailable: {error}") from error
            print(f"{error}\n{label} is unavailable: using SYNTHETIC data instead", flush=True)
    if data is None:
        label = "SYNTHETIC"
        data = SyntheticInteractions(num_users=3_000, num_items=2_000, num_edges=80_000, seed=0)[0]
    # Gowalla has test edges of its own, and a tenth of its users is enough to validate on.
    split = {"val": 0.2, "val_users": 0.1} if is_large(data) else {"val": 0.1}
    train, val, test = UserSplit(test=0.2, seed=0, **split)(data)
    print(
        f"{label}: {train['user'].num_nodes:,} users, {train['item'].num_nodes:,} items, "
        f"{train['user', 'item'].num_edges:,} training edges",
        flush=True,
    )
    return label, train, val, test


def is_large(data: HeteroData) -> bool:
    """Whether epochs should be few and batches large."""
    return data["user", "item"].num_edges > 500_000
