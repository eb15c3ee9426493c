"""Policies of refreshing a recommender, run through a timeline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice, require_count
from pyg_kd.progress import Progress
from pyg_kd.study.refresh.measures import Measures
from pyg_kd.study.refresh.policies import POLICIES, Policy
from pyg_kd.study.refresh.recipe import Recipe
from pyg_kd.study.refresh.report import RefreshReport
from pyg_kd.study.refresh.state import Folder, key_of
from pyg_kd.study.refresh.task import Served, Task
from pyg_kd.transforms import TimeBlocks, TimeStep

#: The name of what all policies start from.
BASE = "base"


def run_refresh(
    data: HeteroData,
    policies: Sequence[str | Policy] = tuple(POLICIES),
    *,
    blocks: TimeBlocks | None = None,
    recipe: Recipe | None = None,
    metric: str = "recall@20",
    seeds: Sequence[int] = (0,),
    folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> RefreshReport:
    r"""Let policies refresh a student block by block, and measure what they gain and cost.

    All policies start from the same teacher and student of the base block. When a block has ended,
    a policy may do something with what is known; what it serves then is measured on the block that
    comes next, of which nothing is known. Users without a vector get the most popular items, items
    without one are not listed.

    Nothing is chosen on what comes next: recipes have fixed settings, to be found on the
    validation targets of the steps.

    Args:
        data: A user-item graph with ``time`` on its edges.
        policies: Names out of :data:`~pyg_kd.study.refresh.POLICIES`, or policies with
            options.
        blocks: How the timeline is cut; by default half of it is the base, five blocks follow,
            and a tenth of every block is held out for measuring what is forgotten. Each seed
            holds out others.
        recipe: Teacher and student; by default alternating least squares of width 200, and
            a factorisation of width 20 that learns by :class:`~pyg_kd.SoftLabel`.
        metric: What is measured.
        seeds: Everything is run once for each, with seeds for models and for what is held out.
        folder: Where results are kept. A run that was stopped goes on there.
        progress: Show progress on the standard error stream.

    Raises:
        TypeError: If ``policies`` or ``seeds`` is no list.
        ValueError: If a policy is unknown or named twice, seeds are negative or equal, there are
            fewer than two increments, a metric is unknown, the graph has no times, or ``folder``
            holds results of something else.

    Example:
        >>> from pyg_kd.datasets import SyntheticStream
        >>> from pyg_kd.study.refresh import NamedTeacher, Recipe, SoftLabelStudent, run_refresh
        >>> data = SyntheticStream(num_users=150, num_items=80, num_edges=2_500)[0]
        >>> recipe = Recipe(NamedTeacher("ease"), SoftLabelStudent(dim=4, epochs=5))
        >>> report = run_refresh(data, ["never", "fold-in"], recipe=recipe, progress=False)
        >>> [row.policy for row in report.summary()]
        ['never', 'fold-in']
    """
    chosen = _policies(policies)
    _check_seeds(seeds)
    blocks = TimeBlocks(probe=0.1) if blocks is None else blocks
    if blocks.increments < 2:
        raise ValueError(f"'blocks' must have two increments or more (got {blocks.increments})")
    recipe = Recipe() if recipe is None else recipe
    kept = Folder(None if folder is None else Path(folder), key_of(data, blocks, recipe, metric))
    total = len(seeds) * (1 + len(chosen) * (blocks.increments - 1))
    records: list[dict[str, Any]] = []
    with Progress("refreshing", total, unit="step", shown=progress) as bar:
        for seed in seeds:
            work = _Seed(data, blocks, recipe, metric, seed, kept, bar)
            records += work.run(chosen)
    counts = [step.counts() for step in work.steps]
    return RefreshReport(metric, [policy.name for policy in chosen], records, counts)


class _Seed:
    """All policies with one seed."""

    def __init__(
        self,
        data: HeteroData,
        blocks: TimeBlocks,
        recipe: Recipe,
        metric: str,
        seed: int,
        kept: Folder,
        bar: Progress,
    ) -> None:
        own = TimeBlocks(
            blocks.base, blocks.increments, val=blocks.val, probe=blocks.probe,
            seed=blocks.seed + seed,
        )  # fmt: skip
        self.steps: list[TimeStep] = own(data)
        self.measures = Measures(data, self.steps, metric)
        self.recipe, self.seed, self.kept, self.bar = recipe, seed, kept, bar

    def run(self, policies: Sequence[Policy]) -> list[dict[str, Any]]:
        """The records of the base and of every step of every policy."""
        record, base = self._step(BASE, 0, None, lambda _, task: task.from_scratch())
        found = [record]
        for policy in policies:
            served = base
            for number in range(1, len(self.steps)):
                record, served = self._step(policy.name, number, served, policy)
                found.append(record)
        return found

    def _step(
        self, name: str, number: int, before: _Lazy | None, policy: Any
    ) -> tuple[dict[str, Any], _Lazy]:
        record = self.kept.record(self.seed, name, number)
        if record is not None:
            self.bar.update()
            return record, _Lazy(lambda: self.kept.served(self.seed, name, number))
        task = Task(self.steps[: number + 1], self.recipe, self.seed)
        served = policy(None if before is None else before.get(), task)
        record = {"policy": name, "step": number, "seed": self.seed}
        record |= self._measured(served, number) | {"cost": task.cost.seconds}
        self.kept.keep(self.seed, name, number, record, served)
        self.bar.update()
        return record, _Lazy(lambda: served)

    def _measured(self, served: Served, number: int) -> dict[str, Any]:
        found: dict[str, Any] = {
            "next": self.measures.of_next(served, number),
            "held": self.measures.of_held(served, number),
            "age of the student": number - served.trained_at,
            "age of the teacher": number - served.taught_at,
        }
        if served.taught_at == number:
            for name, model in (("student", served.student), ("teacher", served.teacher)):
                found[f"{name} ahead"] = self.measures.ahead(model, served.popularity, number)
        return found


class _Lazy:
    """What was served, read when it is asked for."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def get(self) -> Served:
        found: Served = self.make()
        return found


def _check_seeds(seeds: Sequence[int]) -> None:
    if isinstance(seeds, str) or not isinstance(seeds, Sequence) or not seeds:
        raise TypeError(f"'seeds' must be a list of integers (got {seeds!r})")
    require_count(0, **{f"seeds[{place}]": seed for place, seed in enumerate(seeds)})
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"'seeds' must be different (got {list(seeds)})")


def _policies(policies: Sequence[str | Policy]) -> list[Policy]:
    if isinstance(policies, str) or not isinstance(policies, Sequence) or not policies:
        raise TypeError(f"'policies' must be a list of policies (got {policies!r})")
    found: list[Policy] = []
    for policy in policies:
        if isinstance(policy, str):
            require_choice(tuple(POLICIES), policies=policy)
            policy = POLICIES[policy]()
        if not callable(policy) or not hasattr(policy, "name"):
            raise TypeError(f"'policies' must be names or policies (got {policy!r})")
        found.append(policy)
    names = [policy.name for policy in found]
    if len(set(names)) < len(names) or BASE in names:
        raise ValueError(f"'policies' must have different names, none {BASE!r} (got {names})")
    return found
