"""Settings searched by Optuna, resumable to the same settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyg_kd.retrieval.extras import need
from pyg_kd.study.search import Told, best_of
from pyg_kd.study.settings import Setting, is_space

#: A best value within this share of a range from its end lies at the edge.
MARGIN = 0.02


class OptunaSearch:
    r"""A number of trials by the tree-structured Parzen estimator.

    Every trial is drawn by a sampler whose seed is that of the search and the number of the trial,
    from the trials before: a search that was interrupted goes on as if it had not been.

    Args:
        space: Ranges ``{"low": .., "high": .., "log": ..}``, and lists of choices, by name.
        trials: How many.
        path: The file of the trials.
        name: Name of the search in it.
        seed: The seed.

    Raises:
        ImportError: If Optuna is not installed.
        ValueError: If a range is none.
    """

    def __init__(
        self, space: Mapping[str, Any], trials: int, path: Path, name: str, seed: int
    ) -> None:
        self.optuna = need("optuna", "study", "a search by Optuna")
        self.optuna.logging.set_verbosity(self.optuna.logging.WARNING)
        self.space, self.trials, self.seed = dict(space), trials, seed
        self.distributions = {n: self._distribution(n, value) for n, value in space.items()}
        self.study = self.optuna.create_study(
            storage=f"sqlite:///{path}", study_name=name, direction="maximize", load_if_exists=True
        )

    def propose(self, told: Sequence[Told]) -> list[Setting]:
        """The next setting, alone."""
        self._tell(told)
        if len(told) >= self.trials:
            return []
        # A trial that was asked for and not told is asked for again, by its number's own seed.
        for trial in self._of_state("RUNNING"):
            self.study.tell(trial.number, state=self._state("FAIL"))
        self.study.sampler = self._sampler(len(told))
        trial = self.study.ask(self.distributions)
        return [dict(trial.params)]

    def edges(self, told: Sequence[Told]) -> list[str]:
        """The ranges that the best setting lies at an end of."""
        best = best_of(told)
        ranges = {n: v for n, v in self.space.items() if is_space(v)}
        return [n for n in ranges if best is not None and _at_end(best[n], ranges[n])]

    def _tell(self, told: Sequence[Told]) -> None:
        """Let the file hold what was told, in its order."""
        known = [trial.params for trial in self._of_state("COMPLETE")]
        for setting, value in told:
            if value is None or setting in known:
                continue
            for trial in self._of_state("RUNNING"):
                if trial.params == setting:
                    self.study.tell(trial.number, value)
                    break
            else:
                create = self.optuna.trial.create_trial
                self.study.add_trial(
                    create(params=setting, distributions=self.distributions, value=value)
                )

    def _sampler(self, number: int) -> Any:
        startup = max(3, self.trials // 3)
        sampler = self.optuna.samplers.TPESampler
        return sampler(seed=(self.seed + 7919 * number) % 2**32, n_startup_trials=startup)

    def _of_state(self, name: str) -> list[Any]:
        found: list[Any] = self.study.get_trials(deepcopy=False, states=(self._state(name),))
        return found

    def _state(self, name: str) -> Any:
        return getattr(self.optuna.trial.TrialState, name)

    def _distribution(self, name: str, value: Any) -> Any:
        kinds = self.optuna.distributions
        if not is_space(value):
            return kinds.CategoricalDistribution(list(value))
        low, high, log = value["low"], value["high"], bool(value.get("log", False))
        whole = isinstance(low, int) and isinstance(high, int)
        kind = kinds.IntDistribution if whole else kinds.FloatDistribution
        try:
            return kind(low, high, log=log)
        except ValueError as error:
            raise ValueError(f"search.{name}: {error}") from error


def _at_end(value: float, given: Mapping[str, Any]) -> bool:
    low, high = given["low"], given["high"]
    if given.get("log", False):
        value, low, high = math.log(value), math.log(low), math.log(high)
    place = (value - low) / (high - low)
    return not MARGIN < place < 1 - MARGIN
