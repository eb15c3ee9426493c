"""What policies of refreshing gained and cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from statistics import mean, stdev
from typing import Any

import numpy as np

from pyg_kd.alignment import aligned
from pyg_kd.study.refresh.summary import (
    Row,
    forgetting,
    harmonic_mean,
    interval_of_gain,
    undominated,
)

#: What every policy starts from.
BASE = "base"

GROUPS = ("from the base", "joined", "new")


@dataclass(frozen=True)
class RefreshReport:
    r"""Measures of all policies, steps and seeds.

    Args:
        metric: Such as ``"recall@20"``.
        policies: Names of the policies; gains are over the first.
        records: One of each step, policy and seed, and one of the base for each seed.
        counts: What each step knows, and how many users and items are new in the next block.
        rows: The summary, where values of single users, which intervals need, were not kept.
    """

    metric: str
    policies: list[str]
    records: list[dict[str, Any]]
    counts: list[dict[str, int]]
    rows: list[Row] | None = None

    @staticmethod
    def from_dict(told: Mapping[str, Any]) -> RefreshReport:
        """The report of which :meth:`to_dict` told."""
        rows = []
        for row in told["summary"]:
            interval = row["interval"]
            rows.append(Row(**{**row, "interval": None if interval is None else tuple(interval)}))
        policies = [row.policy for row in rows]
        return RefreshReport(told["metric"], policies, told["records"], told["counts"], rows)

    @property
    def seeds(self) -> list[int]:
        """The seeds."""
        return sorted({record["seed"] for record in self.records})

    @property
    def refreshes(self) -> range:
        """The steps at which policies act."""
        return range(1, len(self.counts))

    def record(self, policy: str, step: int, seed: int) -> dict[str, Any]:
        """The record of a step; at step 0 that of the base, from which all policies start."""
        wanted = (BASE if step == 0 else policy, step, seed)
        for record in self.records:
            if (record["policy"], record["step"], record["seed"]) == wanted:
                return record
        raise KeyError(wanted)

    def new(self, policy: str, step: int, seed: int) -> float:
        """The metric on the block after a step."""
        found: float = self.record(policy, step, seed)["next"]["all"]["value"]
        return found

    def average(self, policy: str, step: int, seed: int) -> float | None:
        """The mean of the metric on what was held out of all blocks up to a step."""
        held = self.record(policy, step, seed)["held"]
        return mean(held) if held else None

    def harmonic(self, policy: str, step: int, seed: int) -> float | None:
        """The harmonic mean of the metric on the new block and of the average so far."""
        average = self.average(policy, step, seed)
        return None if average is None else harmonic_mean(self.new(policy, step, seed), average)

    def forgotten(self, policy: str, step: int, seed: int) -> float | None:
        """The :func:`~pyg_kd.study.refresh.forgetting` of earlier blocks after a step."""
        held = [self.record(policy, s, seed)["held"] for s in range(step + 1)]
        return forgetting(held) if held[0] else None

    def seconds(self, policy: str, step: int, seed: int) -> float:
        """CPU seconds of a refresh."""
        return float(sum(self.record(policy, step, seed)["cost"].values()))

    def mean(self, what: Callable[..., float | None], policy: str, step: int) -> float | None:
        """The mean over seeds of one of the methods above; ``None`` where it is not known."""
        values = [what(policy, step, seed) for seed in self.seeds]
        known = [value for value in values if value is not None]
        return mean(known) if known else None

    def summary(self) -> list[Row]:
        """One row for each policy."""
        if self.rows is not None:
            return self.rows
        rows = [self._row(policy) for policy in self.policies]
        best = undominated([row.seconds for row in rows], [row.new for row in rows])
        return [replace(row, undominated=kept) for row, kept in zip(rows, best, strict=True)]

    def _row(self, policy: str) -> Row:
        steps, last = self.refreshes, self.refreshes[-1]
        by_seed = [mean(self.new(policy, s, seed) for s in steps) for seed in self.seeds]
        first = self.policies[0]
        gain = mean(self.mean(self.new, policy, s) - self.mean(self.new, first, s) for s in steps)  # type: ignore[operator]
        cells, others = self._cells(policy), self._cells(first)
        return Row(
            policy,
            mean(by_seed),
            stdev(by_seed) if len(by_seed) > 1 else None,
            self._mean_of_steps(self.average, policy),
            self._mean_of_steps(self.harmonic, policy),
            self.mean(self.forgotten, policy, last),
            mean(self.seconds(policy, s, seed) for s in steps for seed in self.seeds),
            gain,
            None if policy == first else interval_of_gain(cells, others),
        )

    def _mean_of_steps(self, what: Callable[..., float | None], policy: str) -> float | None:
        values = [self.mean(what, policy, step) for step in self.refreshes]
        known = [value for value in values if value is not None]
        return mean(known) if known else None

    def _cells(self, policy: str) -> list[tuple[Any, Any]]:
        found = []
        for step in self.refreshes:
            for seed in self.seeds:
                told = self.record(policy, step, seed)["next"]
                found.append((np.array(told["user"]), np.array(told["value of users"])))
        return found

    def groups(self, policy: str) -> dict[str, tuple[float | None, int]]:
        """The metric by when users and items came, over all users of all refreshes and seeds.

        Returns:
            For ``"users from the base"``, ``"users joined"``, ..., ``"items new"`` the mean,
            :obj:`None` without any, and the number of values.
        """
        found: dict[str, tuple[float | None, int]] = {}
        for name in (f"{side} {group}" for side in ("users", "items") for group in GROUPS):
            told = [
                self.record(policy, step, seed)["next"][name]
                for step in self.refreshes
                for seed in self.seeds
            ]
            count = sum(cell["users"] for cell in told)
            total = sum(cell["users"] * cell["value"] for cell in told if cell["users"])
            found[name] = (total / count if count else None, count)
        return found

    def staleness(self) -> list[dict[str, float]]:
        r"""What a student and a teacher lose with age, if nothing is done.

        For every age in blocks, the mean over steps and seeds of what one trained at that step
        loses on a later block against one that was trained just before it: ``"student"`` and
        ``"teacher"``, and ``"pairs"``, of how many. Empty unless one policy trains both at every
        step.
        """
        told: dict[tuple[int, int], dict[str, Any]] = {}
        for record in self.records:
            if "student ahead" in record:
                told.setdefault((record["seed"], record["step"]), record)
        found = []
        for age in range(1, len(self.counts)):
            pairs = [(told[s, t], told[s, t + age]) for s, t in told if (s, t + age) in told]
            if pairs:
                row: dict[str, float] = {"age": age, "pairs": len(pairs)}
                for kind in ("student", "teacher"):
                    name = f"{kind} ahead"
                    row[kind] = mean(new[name][0] - old[name][age] for old, new in pairs)
                found.append(row)
        return found

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, without those of single users."""
        records = []
        for record in self.records:
            hidden = ("user", "value of users")
            told = {name: v for name, v in record["next"].items() if name not in hidden}
            records.append({**record, "next": told})
        return {
            "metric": self.metric,
            "summary": [asdict(row) for row in self.summary()],
            "groups": {policy: self.groups(policy) for policy in self.policies},
            "staleness": self.staleness(),
            "counts": self.counts,
            "records": records,
        }

    def to_json(self) -> str:
        """:meth:`to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def __str__(self) -> str:
        lines = [["policy", f"new {self.metric}", "average", "harmonic", "forgotten", "CPU s"]]
        for row in self.summary():
            values = (row.new, row.average, row.harmonic, row.forgetting)
            shown = ["-" if value is None else f"{value:.4f}" for value in values]
            lines.append([row.policy, *shown, f"{row.seconds:.1f}"])
        return aligned(lines)
