"""A study that runs: choices at the first seed, finalists with all seeds, test targets last."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pyg_kd.progress import Progress
from pyg_kd.study.config import Config
from pyg_kd.study.plan import Plan
from pyg_kd.study.processes import Executor, RunFailed
from pyg_kd.study.recipes import Recipe
from pyg_kd.study.records import STUDENT, TEACHER, Record
from pyg_kd.study.search import Told, best_of
from pyg_kd.study.settings import Setting
from pyg_kd.study.store import Place, Store, key_of
from pyg_kd.study.worker import EXTRACT, TEST, TRAIN, Job

T = TypeVar("T")
U = TypeVar("U")

KNOWLEDGE, SEARCHES = "knowledge", "searches"


class OutOfTime(Exception):
    """No run is started any more."""


class Limits(NamedTuple):
    """What is run, and for how long.

    Args:
        until: No run is started after this time of :func:`time.monotonic`.
        datasets: These data sets alone; all by default.
        worlds: These worlds alone.
        methods: These rows alone, with those that they depend on.
        seeds: These seeds alone; settings are chosen at the first of the study all the same.
    """

    until: float = float("inf")
    datasets: Collection[str] | None = None
    worlds: Collection[str] | None = None
    methods: Collection[str] | None = None
    seeds: Collection[int] | None = None

    def wants(self, place: Place) -> bool:
        """Whether a row is to be run."""
        given = (self.datasets, self.worlds, self.methods)
        return all(of is None or name in of for name, of in zip(place, given, strict=True))


class Running:
    r"""A study that is run in its folder.

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
        progress: Show progress on the standard error stream.
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
        progress: bool,
    ) -> None:
        self.plan, self.store, self.executor, self.limits = plan, store, executor, limits
        self.roots, self.known, self.command = roots, known, command
        self.threads, self.jobs = threads, jobs
        self.config: Config = plan.config
        self.searches: dict[Place, dict[str, Any]] = {}
        self.failed: dict[str, str] = {}
        self.stopped = False
        self._results: dict[object, Future[Any]] = {}
        self._lock = threading.Lock()
        self.places = [place for place in plan.places() if limits.wants(place)]
        worlds = {(*place[:2], TEACHER): None for place in self.places}
        self.above = list(worlds | {plan.above(place): None for place in self.places})
        self.progress = Progress(self.config.name, self._expected(), unit="run", shown=progress)

    def __call__(self) -> list[Record]:
        """Run what is missing: the tested runs of the rows that are wanted."""
        with self.progress:
            try:
                self._map(self._try_to_choose, self.places, len(self.places))
                self._map(lambda one: self._try(*one), self.finalists(), self.jobs)
                found = self._map(self._try_to_test, self._ready(), self.jobs)
            except BaseException:
                self.stop()
                raise
        return [record for record in found if record is not None]

    def again(self, place: Place, seed: int) -> Record:
        """One row at one seed, tested."""
        record = self.run(place, self.chosen(place), seed)
        self._do(self._job(TEST, place, record))
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
        return self._once(("choice", place), lambda: self._choose(place))

    def run(self, place: Place, setting: Setting, seed: int) -> Record:
        """A run of a row, trained if it is not there."""
        recipe = self.plan.recipe(place, setting, seed, self.chosen)
        wanted = self._wanted(place, setting, seed, recipe)
        found = self._once(("run", wanted.key), lambda: self._run(place, wanted))
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
        search = self.plan.search(place, self.store.path / SEARCHES)
        told: list[Told] = []
        while proposed := search.propose(told):
            told += self._map(lambda setting: self._try_setting(place, setting), proposed, 64)
        best = best_of(told)
        if best is None:
            raise RunFailed(f"{'/'.join(place)}: no setting could be run")
        values = [{"setting": s, "validation": v} for s, v in told]
        edges = search.edges(told)
        self.searches[place] = {"trials": len(told), "values": values, "edges": edges}
        return best

    def _try_setting(self, place: Place, setting: Setting) -> Told:
        try:
            return setting, self.run(place, setting, self.config.seeds[0]).validation
        except RunFailed as error:
            self._fail(place, setting, self.config.seeds[0], error)
            return setting, None

    def _run(self, place: Place, wanted: Record) -> Record:
        """A run that is there, or that of a twin, or a new one; twins wait for each other."""
        found = self.store.find(wanted.key)
        if found is None:
            first = self._once(("twin", wanted.recipe_key), lambda: self._train(place, wanted))
            found = self.store.find(wanted.key) or self.store.adopt(wanted) or first
        self._done()
        return found

    def _train(self, place: Place, wanted: Record) -> Record:
        if (twin := self.store.adopt(wanted)) is not None:
            return twin
        self._do(self._job(TRAIN, place, wanted))
        return self.store.finished(wanted.key)

    def _job(self, kind: str, place: Place, record: Record) -> Job:
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
                job = self._job(EXTRACT, above, teacher)
                self._do(Job(**{**vars(job), "knowledge": path, "lengths": lengths}))
            return path

        return self._once(("knowledge", name), extract)

    def _do(self, job: Job) -> None:
        """Have a job done, unless time is up; tests are always done."""
        if self.stopped or (job.kind != TEST and time.monotonic() > self.limits.until):
            raise OutOfTime
        self.executor(job)

    def finalists(self) -> list[tuple[Place, int]]:
        """Rows and seeds to be trained, seed by seed, so that rows stay comparable."""
        return [
            (place, seed)
            for seed in self.config.seeds
            if self.limits.seeds is None or seed in self.limits.seeds
            for place in [*self.above, *self.places]
            if seed in self.plan.seeds(place)
        ]

    def _try_to_choose(self, place: Place) -> None:
        try:
            self.chosen(place)
        except OutOfTime:
            return
        except RunFailed as error:
            self._fail(place, None, None, error)

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
            self._fail(place, setting, seed, error)
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
            self._do(self._job(TEST, place, record))
        except RunFailed as error:
            self._fail(place, record.setting, record.seed, error)
            return None
        return self.store.finished(record.key)

    def _wanted(self, place: Place, setting: Setting, seed: int, recipe: Recipe) -> Record:
        """The record of a run, as far as it is known beforehand."""
        key = key_of(place, recipe)
        role = TEACHER if self.plan.is_teacher(place) else STUDENT
        names = (self.config.name, *place)
        command = f"{self.command} --run {key}"
        return Record(key, *names, seed, role, setting, recipe, command=command)

    def _once(self, name: object, make: Callable[[], T]) -> T:
        """What ``make`` returns, computed once; others wait for it."""
        with self._lock:
            future = self._results.get(name)
            mine = future is None
            if future is None:
                future = self._results[name] = Future()
        if mine:
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)
                if isinstance(error, OutOfTime):  # asked again when all is tested
                    with self._lock:
                        self._results.pop(name)
        found: T = future.result()
        return found

    def _map(self, function: Callable[[U], T], values: Iterable[U], threads: int) -> list[T]:
        values = list(values)
        if not values:
            return []
        with ThreadPoolExecutor(max(1, min(threads, len(values)))) as pool:
            try:
                return list(pool.map(function, values))
            except (OutOfTime, RunFailed):
                raise
            except BaseException:
                self.stop()
                raise

    def _fail(self, place: Place, setting: Setting | None, seed: int | None, error: object) -> None:
        name = "/".join(place) + ("" if seed is None else f", seed {seed}")
        name += f", {setting}" if setting else ""
        if name not in self.failed and not self.stopped:
            self.failed[name] = str(error)
            print(f"{self.config.name}: {name} failed: {error}", file=sys.stderr, flush=True)

    def _expected(self) -> int:
        """How many runs there are, before grids grow."""
        seeds = self.config.seeds if self.limits.seeds is None else list(self.limits.seeds)
        first = self.config.seeds[0]
        total = 0
        for place in [*self.above, *self.places]:
            further = len({*seeds, first} & {*self.plan.seeds(place)}) - 1
            row = None if self.plan.is_teacher(place) else self.plan.row(place)
            trials = 1
            if place not in self.known and (row is None or row.like is None):
                budget = self.config.budget
                search = None if budget.search == "optuna" else self.plan.search(place, Path())
                trials = budget.trials or 1 if search is None else len(search.propose([])) or 1
            total += trials + further
        return total

    def _done(self) -> None:
        with self._lock:
            if self.progress.done >= self.progress.total:
                self.progress.total += 1  # a grid has grown
            self.progress.update()
