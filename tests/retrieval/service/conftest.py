"""What the tests of the service share: a small index with ties, and a client of an application."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from pyg_kd.retrieval import TopKIndex
from pyg_kd.retrieval.service.app import create_app

USERS, ITEMS = 9, 14
SEEN = {0: [3, 1], 2: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13], 4: [5], 5: [13, 0, 7], 8: [2]}
IDS: dict[str, dict[str, Any]] = {
    "position": {},
    "integer": {"user_ids": np.arange(USERS) * 10 - 5, "item_ids": 100 - np.arange(ITEMS)},
    "text": {
        "user_ids": [f"u{n}" for n in range(USERS)],
        "item_ids": [f"ü{n}" for n in range(ITEMS)],
    },
}


def make_index(kind: str = "position", seed: int = 1, **options: Any) -> TopKIndex:
    """Few distinct values, so that there are many ties, and sums are exact in any order."""
    rng = np.random.default_rng(seed)
    x_user, x_item = (rng.integers(-2, 3, (n, 3)).astype(np.float32) for n in (USERS, ITEMS))
    lists = [SEEN.get(user, []) for user in range(USERS)]
    seen = (np.cumsum([0, *map(len, lists)]), [i for items in lists for i in items])
    return TopKIndex(x_user, x_item, **{"seen": seen, **IDS[kind], **options})


@pytest.fixture
def client() -> Iterator[Callable[..., TestClient]]:
    """Opens clients of applications, with the arguments of ``create_app``."""
    with ExitStack() as stack:

        def connect(bundle: Any = None, **options: Any) -> TestClient:
            app = create_app(make_index() if bundle is None else bundle, **options)
            return stack.enter_context(TestClient(app, base_url="http://localhost"))

        yield connect
