"""Rows of a study, one at a time: chosen, trained with what they depend on, and tested."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, TypeVar

from pyg_kd.progress import Progress
from pyg_kd.study.failures import Failures
from pyg_kd.study.limits import Limits, OutOfTime
from pyg_kd.study.memo import Memo, in_threads
from pyg_kd.study.plan import Plan
from pyg_kd.study.processes import Executor, RunFailed
from pyg_kd.study.records import STUDENT, TEACHER, Record
from pyg_kd.study.schema import Config
from pyg_kd.study.search import Told, conducted
from pyg_kd.study.settings import Setting
from pyg_kd.study.store import Place, Store, wanted_record
from pyg_kd.study.worker import EXTRACT, TEST, TRAIN, Job

T = TypeVar("T")
U = TypeVar("U")

KNOWLEDGE, SEARCHES = "knowledge", "searches"


class Runner:
    r"""Runs rows of a study in its folder.

    Args:
        plan: Its rows.
        store: Its runs.
        executor: Does the jobs.
        limits: What is run.
        roots: Folders of data sets, by their names in the study.
        known: Settings that were chosen before, by row.
        command: The command that runs the study.
        threads: Threads of a run.
        jobs: Runs at a time.
        progress: Counts runs.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        executor: Executor,
        *,
        limits: Limits,
        roots: Mapping[str, str],
        known: Mapping[Place, Setting],
        command: str,
        threads: int,
        jobs: int,
        progress: Progress,
    ) -> None:
        self.plan, self.store, self.executor, self.limits = plan, store, executor, limits
        self.roots, self.known, self.command = roots, known, command
        self.threads, self.jobs = threads, jobs
        self.config: Config = plan.config
        self.searches: dict[Place, dict[str, Any]] = {}
        self.failures, self.stopped = Failures(self.config.name), False
        self.once, self.lock = Memo(anew=OutOfTime), threading.Lock()
        self.room = threading.Semaphore(jobs)
        self.progress = progress

    def again(self, place: Place, seed: int) -> Record:
        """One row at one seed, tested."""
        record = self.run(place, self.chosen(place), seed)
        self.do(self.job(TEST, place, record))
        return self.store.finished(record.key)

    def stop(self) -> None:
        """End what is going on, and start nothing more."""
        self.stopped = True
        self.executor.close()

    def chosen(self, place: Place) -> Setting:
        r"""The setting of a row that is best on the validation targets, searched where unknown.

        Raises:
            RunFailed: If no setting could be run.
            OutOfTime: If there was no time for all.
        """
        return self.once(("choice", place), lambda: self._choose(place))

    def run(self, place: Place, setting: Setting, seed: int) -> Record:
        """A run of a row, trained if it is not there."""
        recipe = self.plan.recipe(place, setting, seed, self.chosen)
        role = TEACHER if self.plan.is_teacher(place) else STUDENT
        names = (self.config.name, place, seed, role)
        wanted = wanted_record(*names, setting, recipe, self.command)
        found = self.once(("run", wanted.key), lambda: self._run(place, wanted))
        if found.validation is None and found.error is not None:
            raise RunFailed(found.error)
        return found

    def _choose(self, place: Place) -> Setting:
        if place in self.known:
            return self.known[place]
        row = None if self.plan.is_teacher(place) else self.plan.row(place)
        if row is not None and row.like is not None:
            like: Place = (*place[:2], row.like)
            self.searches[place] = {"like": row.like}
            return self.chosen(like)
        best, self.searches[place] = conducted(
            self.plan.search(place, self.store.path / SEARCHES),
            lambda settings: self.map(partial(self._try_setting, place), settings, 64),
        )
        if best is None:
            raise RunFailed(f"{'/'.join(place)}: no setting could be run")
        return best

    def _try_setting(self, place: Place, setting: Setting) -> Told:
        try:
            value = self.run(place, setting, self.config.seeds[0]).validation
            return setting, -inf if value is None else value
        except RunFailed as error:
            self.fail(place, setting, self.config.seeds[0], error)
            return setting, None

    def _run(self, place: Place, wanted: Record) -> Record:
        """A run that is there, or that of a twin, or a new one; twins wait for each other."""
        found = self.store.find(wanted.key)
        if found is None:
            first = self.once(("twin", wanted.recipe_key), lambda: self._train(place, wanted))
            found = self.store.find(wanted.key) or self.store.adopt(wanted) or first
        self._done()
        return found

    def _train(self, place: Place, wanted: Record) -> Record:
        if (twin := self.store.adopt(wanted)) is not None:
            return twin
        self.do(self.job(TRAIN, place, wanted))
        return self.store.finished(wanted.key)

    def job(self, kind: str, place: Place, record: Record) -> Job:
        """The job of a run, once all that it depends on is there."""
        knowledge, alone = record.recipe["knowledge"], None
        if kind == TRAIN and knowledge is not None and knowledge["self"] is not None:
            base = self.plan.baseline(place)
            taught = self.run(base, self.chosen(base), record.seed)
            alone = (taught.recipe, self.store.folder(taught.key))
        path = None
        if kind == TRAIN and knowledge is not None:
            lengths = knowledge["num_items"], knowledge["num_users"]
            path = self.knowledge(place, record.seed, lengths)
        return Job(
            kind=kind,
            folder=self.store.folder(record.key),
            record=record,
            dataset=self.config.datasets[place[0]],
            root=self.roots.get(place[0]),
            knowledge=path,
            alone=alone,
            test=self.config.test,
            search=self.searches.get(place),
            threads=self.threads,
        )

    def knowledge(self, place: Place, seed: int, lengths: tuple[int, int]) -> Path:
        """The file with what the teacher of a row at a seed knows, extracted once."""
        above = self.plan.above(place)
        teacher = self.run(above, self.chosen(above), self.plan.seed_of_teacher(place, seed))
        name = f"{teacher.recipe_key}-{lengths[0]}-{lengths[1]}.safetensors"
        path = self.store.path / KNOWLEDGE / name

        def extract() -> Path:
            if not path.is_file():
                job = self.job(EXTRACT, above, teacher)
                self.do(Job(**{**vars(job), "knowledge": path, "lengths": lengths}))
            return path

        return self.once(("knowledge", name), extract)

    def do(self, job: Job) -> None:
        """Have a job done once there is room, unless time is up by then; tests are always done."""
        with self.room:
            if self.stopped or (job.kind != TEST and time.monotonic() > self.limits.until):
                raise OutOfTime
            self.executor(job)

    def map(self, function: Callable[[U], T], values: Iterable[U], threads: int) -> list[T]:
        """Apply a function to values in threads."""
        return in_threads(function, values, threads, self._unless_told)

    def _unless_told(self, error: BaseException) -> None:
        """Stop for what is neither a failed run nor the end of the time."""
        if not isinstance(error, (OutOfTime, RunFailed)):
            self.stop()

    def fail(self, place: Place, setting: Setting | None, seed: int | None, error: object) -> None:
        """Note that a run failed, unless the study is being stopped."""
        if not self.stopped:
            self.failures.add(place, setting, seed, error)

    def _done(self) -> None:
        with self.lock:
            if self.progress.done >= self.progress.total:
                self.progress.total += 1  # a grid has grown
            self.progress.update()
