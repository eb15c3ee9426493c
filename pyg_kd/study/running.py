"""A study that runs: choices at the first seed, finalists with all seeds, test targets last."""

from __future__ import annotations

from typing import Any

from pyg_kd.progress import Progress
from pyg_kd.study.limits import Limits, OutOfTime, expected_runs
from pyg_kd.study.plan import Plan
from pyg_kd.study.processes import RunFailed
from pyg_kd.study.records import TEACHER, Record
from pyg_kd.study.runner import Runner
from pyg_kd.study.store import Place
from pyg_kd.study.worker import TEST


class Running(Runner):
    r"""Runs all rows of a study that are wanted.

    Args:
        plan: The rows.
        progress: Show progress on the standard error stream.
        limits: What is wanted.
        options: The other arguments of a :class:`~pyg_kd.study.runner.Runner`.
    """

    def __init__(self, plan: Plan, *, progress: bool, limits: Limits, **options: Any) -> None:
        self.places = [place for place in plan.places() if limits.wants(place)]
        worlds = {(*place[:2], TEACHER): None for place in self.places}
        self.above = list(worlds | {plan.above(place): None for place in self.places})
        total = expected_runs(plan, [*self.above, *self.places], limits)
        shown = Progress(plan.config.name, total, unit="run", shown=progress)
        super().__init__(plan, progress=shown, limits=limits, **options)

    def __call__(self) -> list[Record]:
        """Run what is missing: the tested runs of the rows that are wanted."""
        with self.progress:
            try:
                self.map(self._try_to_choose, self.places, len(self.places))
                self.map(lambda one: self._try(*one), self.finalists(), self.jobs)
                found = self.map(self._try_to_test, self._ready(), self.jobs)
            except BaseException:
                self.stop()
                raise
        return [record for record in found if record is not None]

    def finalists(self) -> list[tuple[Place, int]]:
        """Rows and seeds to be trained, seed by seed, so that rows stay comparable."""
        return [
            (place, seed)
            for seed in self.config.seeds
            if self.limits.wants_seed(seed)
            for place in [*self.above, *self.places]
            if seed in self.plan.seeds(place)
        ]

    def _try_to_choose(self, place: Place) -> None:
        try:
            self.chosen(place)
        except OutOfTime:
            return
        except RunFailed as error:
            self.fail(place, None, None, error)

    def _try(self, place: Place, seed: int) -> Record | None:
        try:
            setting = self.chosen(place)
        except (OutOfTime, RunFailed):
            return None
        try:
            return self.run(place, setting, seed)
        except OutOfTime:
            return None
        except RunFailed as error:
            self.fail(place, setting, seed, error)
            return None

    def _ready(self) -> list[tuple[Place, Record]]:
        """The finalists that were trained, whoever wanted them."""
        self.limits = self.limits._replace(until=float("-inf"))
        found = [(place, self._try(place, seed)) for place, seed in self.finalists()]
        return [(place, record) for place, record in found if record is not None]

    def _try_to_test(self, one: tuple[Place, Record]) -> Record | None:
        place, record = one
        search = self.searches.get(place, record.search)
        if record.test is not None and record.search == search:
            return record
        try:
            self.do(self.job(TEST, place, record))
        except RunFailed as error:
            self.fail(place, record.setting, record.seed, error)
            return None
        return self.store.finished(record.key)
