"""A bundle that is being served."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from pyg_kd.retrieval.index import TopKIndex


class Served:
    """An index, and the digest by which answers name it. One thread at a time changes it.

    Args:
        index: The index.
        digest: The digest of its bundle; of an index without one, a number of this process.
    """

    def __init__(self, index: TopKIndex, digest: str | None = None) -> None:
        self.index = index
        told: Any = digest or index.info.get("sha256")
        self.digest: str = told or hashlib.sha256(f"{os.getpid()} {id(index)}".encode()).hexdigest()
        #: Users whose vectors were folded in since, by their ids.
        self.folded: set[int | str] = set()
