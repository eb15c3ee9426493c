"""The items of an index as the page shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.service.page.lookup import Titles

#: Suggestions of a field.
SUGGESTED = 12


class Catalogue:
    """Titles of the items, how often each was chosen, and the most popular ones.

    It is prepared once for an index, and keeps nothing of it: a bundle that was replaced can go.

    Args:
        index: The index.
        names: Titles by original ids; ``None`` or empty if there are none.

    Attributes:
        names: The names given.
        count: How often each item was chosen, ``[I]``; zeros where that is unknown.
        titles: The titles, or ``None``.
        popular: Rows of the most popular items.
    """

    def __init__(self, index: TopKIndex, names: Mapping[Any, str] | None) -> None:
        self.names = names or None
        count = index.popularity
        self.count = np.zeros(index.num_items) if count is None else np.array(count)
        self.titles = None if self.names is None else Titles.of(index.items, self.names, self.count)
        self.popular: list[int] = np.argsort(-self.count, kind="stable")[:SUGGESTED].tolist()
