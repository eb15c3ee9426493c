"""A study that takes a second, for the tests of whatever reads or runs studies."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

from pyg_kd.study import Results
from pyg_kd.study.conducting import run_study
from pyg_kd.study.processes import InProcess

CONFIG: dict[str, Any] = {
    "name": "tiny",
    "metric": "ndcg@5",
    "seeds": [0, 1],
    "test": {"k": [5], "metrics": ["recall", "ndcg"]},
    "budget": {"trials": 2, "extensions": 1},
    "datasets": {
        "made": {
            "data": "SyntheticInteractions",
            "options": {"num_users": 80, "num_items": 50, "num_edges": 1500},
        }
    },
    "teachers": {"ease": {"model": "EASE"}, "als": {"model": "AlternatingLeastSquares", "dim": 8}},
    "worlds": {
        "mf": {
            "teacher": "als",
            "student": {
                "model": "MF",
                "dim": 4,
                "trainer": {"max_epochs": 2, "batch_size": 512, "patience": None},
            },
        }
    },
    "methods": {
        "student alone": {"search": {"trainer.lr": [0.01, 0.03]}},
        "soft": {
            "method": "SoftLabel",
            "options": {"num_listed": 10},
            "search": {"weight": [0.1, 1.0]},
        },
    },
}


def tiny(**changes: Any) -> dict[str, Any]:
    """The configuration, changed."""
    return {**copy.deepcopy(CONFIG), **changes}


class Counting(InProcess):
    """Does jobs in this process, and remembers them."""

    def __init__(self, fail_after: int | None = None) -> None:
        super().__init__()
        self.done: list[tuple[str, str, int]] = []
        self.places = itertools.count()
        self.fail_after = fail_after

    def __call__(self, job: Any) -> None:
        if self.fail_after is not None and next(self.places) >= self.fail_after:
            raise KeyboardInterrupt
        super().__call__(job)
        self.done.append((job.kind, job.record.method, job.record.seed))


def conduct(config: dict[str, Any], out: Path, executor: Any = None, **options: Any) -> Results:
    """Run a study in this process."""
    return run_study(config, out, executor=executor or InProcess(), progress=False, **options)
