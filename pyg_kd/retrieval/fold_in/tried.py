"""Candidates of a fit, and how well each of them does."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.fold_in.regression import BOUNDS
from pyg_kd.retrieval.fold_in.trial import K, Trial
from pyg_kd.retrieval.fold_in.users import FoldIn
from pyg_kd.retrieval.tables import Table

Array = npt.NDArray[Any]


class Tried:
    """Candidates and how well they do, by name.

    Args:
        table: Vectors of the items.
        trial: Users and what is to be found.
    """

    def __init__(self, table: Table, trial: Trial) -> None:
        self.table, self.trial = table, trial
        self.rules: dict[str, FoldIn] = {}
        self.recall: dict[str, Array] = {}

    def add(self, name: str, rule: FoldIn) -> Array:
        """Try a rule: its recall for every user."""
        queries = rule(self.trial.known.ptr, self.trial.known.col)
        self.rules[name], self.recall[name] = rule, self.trial.recall(self.table, queries)
        return self.recall[name]

    def best_name(self, kind: str | None = None) -> str:
        """The name of the best candidate, or of the best of a kind; the first among equals."""
        names = [n for n, rule in self.rules.items() if kind in (None, rule.kind)]
        return max(names, key=lambda name: float(self.recall[name].mean()))

    def best(self) -> FoldIn:
        """The best candidate."""
        return self.rules[self.best_name()]

    def report(self, popularity: Array, targets: str) -> dict[str, Any]:
        """What was tried, in numbers and strings alone."""
        most_popular = Table.of(popularity[:, None])
        ones = np.ones((len(self.trial.users), 1), np.float32)
        name, group = self.best_name(), self.trial.group
        return {
            "metric": f"recall@{K}",
            "targets": targets,
            "users": len(self.trial.users),
            "chosen": name,
            "tried": {n: round(float(r.mean()), 5) for n, r in self.recall.items()},
            "popularity": round(float(self.trial.recall(most_popular, ones).mean()), 5),
            "by length": {
                str(BOUNDS[g]): {
                    "users": int((group == g).sum()),
                    "recall": round(float(self.recall[name][group == g].mean()), 5),
                }
                for g in np.unique(group).tolist()
            },
        }
