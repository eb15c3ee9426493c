"""Which settings are tried: a grid that grows at its ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, NamedTuple, Protocol

from pyg_kd.checks import is_number
from pyg_kd.study.settings import Setting

#: A setting and the validation value it reached, -inf if it has none; ``None`` if its run failed.
Told = tuple[Setting, float | None]


class Search(Protocol):
    """Proposes settings; what it proposes depends on what was told alone."""

    def propose(self, told: Sequence[Told]) -> list[Setting]:
        """Settings to try next; none if the search is over."""

    def edges(self, told: Sequence[Told]) -> list[str]:
        """Names whose best value lies at an end of what was searched."""


class End(NamedTuple):
    """An end of an axis at which the best value lies."""

    name: str
    #: The value beyond the end; ``None`` if there is none by the ratio of the grid.
    beyond: float | int | None


class GridSearch:
    r"""All settings of a grid, then further ones while the best lies at an end.

    An axis goes on by its ratio at that end: of 0.01, 0.1 and 1 with the best at 1, the next is
    10. A value of 0 is a natural end.

    Args:
        settings: The grid.
        extensions: How many settings may be added.
        possible: Whether a setting may be tried at all.

    Example:
        >>> search = GridSearch([{"weight": 0.1}, {"weight": 1.0}], extensions=1)
        >>> search.propose([({"weight": 0.1}, 0.2), ({"weight": 1.0}, 0.3)])
        [{'weight': 10.0}]
    """

    def __init__(
        self,
        settings: Sequence[Setting],
        extensions: int = 0,
        possible: Callable[[Setting], bool] = lambda setting: True,
    ) -> None:
        self.settings, self.extensions, self.possible = list(settings), extensions, possible

    def propose(self, told: Sequence[Told]) -> list[Setting]:
        """The grid, then one setting for each end that is best, while some may be added."""
        tried = [setting for setting, _ in told]
        if missing := [s for s in self.settings if s not in tried]:
            return missing
        left = self.extensions - (len(tried) - len(self.settings))
        best = best_of(told)
        if best is None or left <= 0:
            return []
        new = [
            {**best, end.name: end.beyond} for end in ends(tried, best) if end.beyond is not None
        ]
        return [s for s in new if s not in tried and self.possible(s)][:left]

    def edges(self, told: Sequence[Told]) -> list[str]:
        """The axes that the best setting still lies at an end of."""
        best = best_of(told)
        return [] if best is None else [end.name for end in ends([s for s, _ in told], best)]


def conducted(
    search: Search, run: Callable[[list[Setting]], list[Told]]
) -> tuple[Setting | None, dict[str, Any]]:
    """The best setting of a search, and what was tried.

    Args:
        search: The search.
        run: Runs settings and tells what they reached.
    """
    told: list[Told] = []
    while proposed := search.propose(told):
        told += run(proposed)
    values = [{"setting": s, "validation": None if v == -inf else v} for s, v in told]
    about = {"trials": len(told), "values": values, "edges": search.edges(told)}
    return best_of(told), about


def best_of(told: Sequence[Told]) -> Setting | None:
    """The setting of the highest value, the first of equal ones; ``None`` if all failed."""
    best: Setting | None = None
    highest = -inf
    for setting, value in told:
        if value is not None and (best is None or value > highest):
            best, highest = setting, value
    return best


def ends(tried: Sequence[Setting], best: Setting) -> list[End]:
    """The axes of numbers at whose end the best setting lies."""
    found = []
    for name, value in best.items():
        axis = sorted({s[name] for s in tried if is_number(s.get(name))})
        if len(axis) < 2 or not is_number(value) or value not in (axis[0], axis[-1]) or not value:
            continue
        neighbour = axis[1] if value == axis[0] else axis[-2]
        found.append(End(name, _beyond(value, neighbour)))
    return found


def _beyond(value: float, neighbour: float) -> float | int | None:
    """The next value of a geometric axis."""
    if value * neighbour <= 0:
        return None
    further = float(f"{value * value / neighbour:.2g}")
    if isinstance(value, int) and isinstance(neighbour, int):
        whole = round(further)
        return whole if whole not in (value, 0) else None
    return further
