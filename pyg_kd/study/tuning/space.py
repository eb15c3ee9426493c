"""What is tuned: ranges around a recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

from pyg_kd.distill import Distillation

#: Values by name: ``lr``, ``weight_decay``, ``METHOD.weight`` and ``METHOD.OPTION``.
Setting = dict[str, Any]
#: Methods and their weights.
Methods = Sequence[tuple[Distillation, float]]

#: How far the range of each kind of value goes, as a factor of the recipe's.
LR, WEIGHT, OPTION = 10.0, 30.0, 4.0

#: A weight decay of less is none, and the range goes at least so far up.
LEAST_DECAY, MOST_DECAY = 1e-7, 1e-2

#: A best value within this share of its range from an end lies at the edge.
MARGIN = 0.02


@dataclass(frozen=True)
class Range:
    r"""Numbers from ``low`` to ``high``, on a logarithmic scale.

    Args:
        default: The recipe's value; of several numbers, which are scaled together, the first is
            searched.
        low: The lowest.
        high: The highest.
        zero: The low end stands for 0, and a best value there is no reason to search on.

    Raises:
        ValueError: If ``low`` is not positive, or ``high`` not above it.

    Example:
        >>> Range((8.0, 40.0), 2.0, 32.0).value(16.0)
        [16.0, 80.0]
    """

    default: float | tuple[float, ...]
    low: float
    high: float
    zero: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(f"a range must go up from above 0 (got {self.low} to {self.high})")

    @property
    def first(self) -> float:
        """The number that is searched, at the recipe's value, within the range."""
        value = self.default[0] if isinstance(self.default, tuple) else self.default
        return min(max(float(value), self.low), self.high)

    def value(self, number: float) -> float | list[float]:
        """The value for a number of the range, with three digits."""
        if self.zero and self.place(number) < MARGIN:
            return 0.0
        if isinstance(self.default, tuple):
            return [_digits(number * part / self.default[0]) for part in self.default]
        return _digits(number)

    def place(self, number: float) -> float:
        """Where a number lies between the ends, from 0 to 1."""
        return math.log(number / self.low) / math.log(self.high / self.low)

    def at_edge(self, number: float) -> bool:
        """Whether a number lies at an end that is none of nature."""
        place = self.place(number)
        return place > 1 - MARGIN or (place < MARGIN and not self.zero)


def around(default: float | Sequence[float], factor: float) -> Range:
    """The range of a factor around a value, or around several that are scaled together.

    Example:
        >>> around(0.01, 10.0)
        Range(default=0.01, low=0.001, high=0.1, zero=False)
    """
    first = float(default[0]) if isinstance(default, Sequence) else float(default)
    whole = tuple(map(float, default)) if isinstance(default, Sequence) else first
    return Range(whole, first / factor, first * factor)


def ranges(
    methods: Methods, *, lr: float, weight_decay: float, base_weight: float
) -> dict[str, Range]:
    r"""What is tuned of a student: its learning rate and weight decay, and its methods.

    Weights of methods are tuned where there is something to weigh them against, a base loss or
    another method. Of the options of methods those are tuned that
    :attr:`~pyg_kd.distill.Distillation.tunes` names.

    Args:
        methods: The methods with their recipe's weights.
        lr: The recipe's learning rate.
        weight_decay: The recipe's weight decay.
        base_weight: Weight of the base loss.

    Example:
        >>> from pyg_kd import SoftLabel
        >>> [*ranges([(SoftLabel(), 1.0)], lr=0.01, weight_decay=0.0, base_weight=0.0)]
        ['lr', 'weight_decay', 'SoftLabel.temperature']
    """
    found = {
        "lr": around(lr, LR),
        "weight_decay": Range(
            weight_decay, LEAST_DECAY, max(MOST_DECAY, LR * weight_decay), zero=True
        ),
    }
    for place, (name, method, weight) in enumerate(_named(methods)):
        if weight > 0 and (base_weight or place):
            found[f"{name}.weight"] = around(weight, WEIGHT)
        for option in method.tunes:
            value = getattr(method, option)
            values = value if isinstance(value, Sequence) else (value,)
            if all(isinstance(v, (int, float)) and v > 0 for v in values):
                found[f"{name}.{option}"] = around(value, OPTION)
    return found


def with_setting(methods: Methods, setting: Mapping[str, Any]) -> list[tuple[Distillation, float]]:
    """The methods, made anew with the weights and options of a setting.

    Example:
        >>> from pyg_kd import SoftLabel
        >>> with_setting([(SoftLabel(), 1.0)], {"SoftLabel.temperature": 5.0})[0][0].temperature
        5.0
    """
    found = []
    for name, method, weight in _named(methods):
        options = {o: getattr(method, o) for o in signature(type(method)).parameters}
        mine = {k.partition(".")[2]: v for k, v in setting.items() if k.startswith(f"{name}.")}
        weight = mine.pop("weight", weight)
        found.append((type(method)(**{**options, **mine}), weight))
    return found


def default_of(space: Mapping[str, Range]) -> Setting:
    """The recipe's own values."""
    return {
        name: list(found.default) if isinstance(found.default, tuple) else found.default
        for name, found in space.items()
    }


def _named(methods: Methods) -> Iterator[tuple[str, Distillation, float]]:
    """Methods with names of their own: the second of a class is counted."""
    seen: dict[str, int] = {}
    for method, weight in methods:
        kind = type(method).__name__
        seen[kind] = seen.get(kind, 0) + 1
        yield kind if seen[kind] == 1 else f"{kind} {seen[kind]}", method, weight


def _digits(number: float) -> float:
    return float(f"{number:.3g}")
