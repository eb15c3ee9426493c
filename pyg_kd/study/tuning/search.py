"""A search within minutes, which can be interrupted and continued, and starts at the recipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path

from pyg_kd.checks import require_count, require_positive
from pyg_kd.progress import Progress
from pyg_kd.retrieval.extras import need
from pyg_kd.study.tuning.space import Range, Setting, default_of
from pyg_kd.study.tuning.trials import (
    COMPLETE,
    FAILED,
    PRUNED,
    Trial,
    Tuning,
    read_trials,
    write_trials,
)
from pyg_kd.training import TrainingDiverged

#: ``report(step, value)`` tells how a trial stands; it ends a trial that is behind.
Report = Callable[[int, float], None]
#: ``objective(setting, report)`` returns the value of a setting, the higher the better.
Objective = Callable[[Setting, Report], float]

#: Trials before the others are guided, and before one may be ended early.
STARTUP, UNPRUNED = 5, 4

#: What Optuna calls a state.
STATES = {COMPLETE: "COMPLETE", PRUNED: "PRUNED", FAILED: "FAIL"}


def search(
    objective: Objective,
    space: Mapping[str, Range],
    *,
    metric: str,
    minutes: float,
    trials: int | None = None,
    storage: Path | None = None,
    name: str = "student",
    seed: int = 0,
    warmup: int = 0,
    progress: bool = True,
) -> Tuning:
    r"""Search ranges for the best value within minutes.

    The first trial is the recipe, whose value the result is never below. The others are proposed by
    the tree-structured Parzen estimator of `"Algorithms for Hyper-Parameter Optimization"
    <https://papers.nips.cc/paper/4443>`_, each by a generator of its own seed: a search that was
    interrupted proposes what it would have. From the fifth trial on, one whose best value so far is
    below the median of the others at the same step is ended. No trial is started that, taking as
    long as the longest, would end after the minutes, those of earlier calls included.

    Args:
        objective: Trains with a setting, reports its values as they come, and returns the best.
            A trial that raises :class:`~pyg_kd.training.TrainingDiverged` has failed.
        space: The ranges.
        metric: Name of the value.
        minutes: How long to search.
        trials: How many trials at most.
        storage: A JSON file that keeps the trials; there is none by default.
        name: Name of the search in it.
        seed: Seed of the proposals.
        warmup: Steps before which no trial is ended.
        progress: Show progress on the standard error stream.

    Raises:
        ImportError: If Optuna is not installed.
        ValueError: If an option is out of range, or the file holds a search of other ranges under
            this name.
        KeyboardInterrupt: If it is interrupted before a trial is complete.

    Example:
        >>> def objective(setting, report):
        ...     return -abs(setting["lr"] - 0.03)
        >>> space = {"lr": Range(0.01, 0.001, 0.1)}
        >>> found = search(
        ...     objective, space, metric="value", minutes=1, trials=12, progress=False
        ... )
        >>> found.trials[0].setting, found.best.value > -0.02
        ({'lr': 0.01}, True)
    """
    require_positive(minutes=minutes)
    if trials is not None:
        require_count(trials=trials)
    if not space:
        raise ValueError(f"'space' must hold a range or more (got {space!r})")
    work = _Search(dict(space), metric, storage, name, seed, warmup)
    interrupted = False
    spent = work.found().seconds
    label, total = f"tuning {name}", max(round(60 * minutes), 1)
    initial = min(round(spent), total)
    with Progress(label, total, unit="s", initial=initial, shown=progress) as shown:
        try:
            while work.may_start(60 * minutes, trials):
                trial = work.run(objective)
                shown.update(min(round(trial.seconds), max(total - shown.done, 0)))
                if (found := work.found()).complete:
                    shown.note(trials=len(found.trials), best=found.best_value)
        except KeyboardInterrupt:
            interrupted = True
            if not work.found().complete:
                raise
    result = work.found()
    return Tuning(metric, result.space, result.trials, interrupted)


class _Search:
    """A search and its file."""

    def __init__(
        self,
        space: dict[str, Range],
        metric: str,
        storage: Path | None,
        name: str,
        seed: int,
        warmup: int,
    ) -> None:
        self.optuna = need("optuna", "study", "tuning")
        self.optuna.logging.set_verbosity(self.optuna.logging.WARNING)
        self.space, self.metric, self.seed = space, metric, seed
        self.storage, self.name = storage, name
        kind = self.optuna.distributions.FloatDistribution
        self.distributions = {n: kind(r.low, r.high, log=True) for n, r in space.items()}
        self.study = self.optuna.create_study(
            direction="maximize",
            pruner=self.optuna.pruners.MedianPruner(UNPRUNED, n_warmup_steps=warmup),
        )
        self.trials = read_trials(storage, name, space, metric) if storage is not None else []
        for trial in self.trials:
            self._tell(trial)

    def found(self) -> Tuning:
        """What was tried so far."""
        return Tuning(self.metric, self.space, tuple(self.trials))

    def may_start(self, seconds: float, trials: int | None) -> bool:
        """Whether another trial fits into the time."""
        if not self.trials:
            return True
        if trials is not None and len(self.trials) >= trials:
            return False
        longest = max(trial.seconds for trial in self.trials)
        return self.found().seconds + longest <= seconds

    def run(self, objective: Objective) -> Trial:
        """The next trial."""
        number = len(self.trials)
        self.study.sampler = self.optuna.samplers.TPESampler(
            seed=(self.seed + 7919 * number) % 2**32, n_startup_trials=STARTUP
        )
        if number == 0:
            self.study.enqueue_trial({n: r.first for n, r in self.space.items()})
        asked = self.study.ask(self.distributions)
        setting = {n: r.value(asked.params[n]) for n, r in self.space.items()}
        setting = setting if number else default_of(self.space)
        started, curve = time.monotonic(), []

        def report(step: int, value: float) -> None:
            curve.append((step, value))
            asked.report(max(v for _, v in curve), step)
            if asked.should_prune():
                raise self.optuna.TrialPruned

        value, state = None, FAILED
        try:
            value, state = float(objective(setting, report)), COMPLETE
        except self.optuna.TrialPruned:
            value, state = max(v for _, v in curve), PRUNED
        except TrainingDiverged:
            pass
        result = getattr(self.optuna.trial.TrialState, STATES[state])
        self.study.tell(asked, value if state == COMPLETE else None, state=result)
        seconds = time.monotonic() - started
        numbers = dict(asked.params)
        trial = Trial(number, setting, numbers, value, state, seconds, tuple(curve))
        self.trials.append(trial)
        if self.storage is not None:
            write_trials(self.storage, self.name, self.found())
        return trial

    def _tell(self, trial: Trial) -> None:
        """Let Optuna know of a trial from the file."""
        best = accumulate((value for _, value in trial.curve), max)
        told = self.optuna.trial.create_trial(
            state=getattr(self.optuna.trial.TrialState, STATES[trial.state]),
            params=trial.numbers,
            distributions=self.distributions,
            value=trial.value if trial.state == COMPLETE else None,
            intermediate_values=dict(zip((step for step, _ in trial.curve), best, strict=True)),
        )
        self.study.add_trial(told)
