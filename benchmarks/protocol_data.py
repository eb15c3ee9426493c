"""The data of the protocol of 2025-26, split 8:1:1 for every user, and a digest of the split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pyg_kd.datasets import CiteULike, Gowalla, MovieLens100K, SyntheticInteractions
from pyg_kd.datasets.graph import edges_digest, interaction_graph
from pyg_kd.transforms import KCore, UserSplit

INTERACTS = ("user", "interacts", "item")


def gowalla(root: str | None) -> Any:
    """The published files, with training and test edges put together again."""
    data: Any = Gowalla(root)[0]
    edges = torch.cat([data[INTERACTS].edge_index, data[INTERACTS].edge_label_index], 1)
    return interaction_graph(edges[0], edges[1], data["user"].num_nodes, data["item"].num_nodes)


def yelp(root: str | None) -> Any:
    """Reviews of four stars and more, from the lines of ``yelp_academic_dataset_review.json``.

    Users and businesses are numbered in the order in which the file first names them, then
    reduced to those with ten reviews and more.
    """
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    pairs = []
    with (Path(root or "data/yelp") / "yelp_academic_dataset_review.json").open() as lines:
        for line in lines:
            review = json.loads(line)
            if review["stars"] >= 4:
                user = users.setdefault(review["user_id"], len(users))
                pairs.append((user, items.setdefault(review["business_id"], len(items))))
    edges = torch.tensor(pairs).t()
    return KCore(10)(interaction_graph(edges[0], edges[1], len(users), len(items)))


def synthetic(root: str | None) -> Any:
    """Small, and in need of no file."""
    return SyntheticInteractions(num_users=150, num_items=120, num_edges=4_500)[0]


GRAPHS: dict[str, Callable[[str | None], Any]] = {
    "citeulike": lambda root: CiteULike(root)[0],
    "gowalla": gowalla,
    "yelp": yelp,
    "movielens-100k": lambda root: MovieLens100K(root)[0],
    "synthetic": synthetic,
}


def split(name: str, root: str | None, seed: int = 0) -> tuple[list[Any], str]:
    """Training, validation and test graph, and the SHA-256 of the edges of all three."""
    graphs = list(UserSplit(val=0.1, test=0.1, seed=seed)(GRAPHS[name](root)))
    parts = [graphs[0][INTERACTS].edge_index, *(g[INTERACTS].edge_label_index for g in graphs[1:])]
    text = " ".join(edges_digest(part) for part in parts)
    return graphs, hashlib.sha256(text.encode()).hexdigest()
