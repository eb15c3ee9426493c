"""The checks that options of methods and models share."""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from numbers import Integral, Real


def is_number(value: object) -> bool:
    """Whether a value that was read from a file is a number, of which a bool is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def require_number(**options: object) -> None:
    """Raise ``TypeError`` for the first option that is no number.

    Example:
        >>> require_number(lr="0.1")
        Traceback (most recent call last):
        TypeError: 'lr' must be a number (got '0.1')
    """
    for name, value in options.items():
        if not isinstance(value, Real):
            raise TypeError(f"{name!r} must be a number (got {value!r})")


def require_count(least: int = 1, **options: object) -> None:
    """Raise ``ValueError`` for the first option that is not an integer, or is below ``least``.

    A bool is not an integer here.

    Example:
        >>> require_count(dim=8.0)
        Traceback (most recent call last):
        ValueError: 'dim' must be a positive integer (got 8.0)
    """
    wanted = "a positive integer" if least == 1 else f"an integer of {least} or more"
    for name, value in options.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name!r} must be {wanted} (got {value!r})")


#: Seeds of all generators there are: NumPy takes no negative ones, and some are multiplied for the
#: epochs.
SEEDS = range(2**32)


def require_seed(**options: object) -> None:
    """Raise ``ValueError`` for the first option that is none of :data:`SEEDS`.

    Example:
        >>> require_seed(seed=2**80)
        Traceback (most recent call last):
        ValueError: 'seed' must be an integer from 0 to 4294967295 (got 1208925819614629174706176)
    """
    for name, value in options.items():
        integer = isinstance(value, Integral) and not isinstance(value, bool)
        if not integer or value not in SEEDS:
            raise ValueError(f"{name!r} must be an integer from 0 to {SEEDS[-1]} (got {value!r})")


def require_positive(**options: float) -> None:
    """Raise ``ValueError`` for the first option that is not above zero and finite.

    Example:
        >>> require_positive(num_listed=10, scale=-1.0)
        Traceback (most recent call last):
        ValueError: 'scale' must be positive (got -1.0)
    """
    require_number(**options)
    for name, value in options.items():
        if not 0 < value < inf:
            finite = " and finite" if value == inf else ""
            raise ValueError(f"{name!r} must be positive{finite} (got {value})")


def require_at_least(least: float, **options: float) -> None:
    """Raise ``ValueError`` for the first option below ``least`` or not finite.

    Example:
        >>> require_at_least(2, num_items=1)
        Traceback (most recent call last):
        ValueError: 'num_items' must be 2 or more (got 1)
    """
    require_number(**options)
    for name, value in options.items():
        if not least <= value < inf:
            finite = " and finite" if value == inf else ""
            raise ValueError(f"{name!r} must be {least} or more{finite} (got {value})")


def require_choice(allowed: Collection[str], **options: str) -> None:
    """Raise ``ValueError`` for the first option that is none of the choices.

    Example:
        >>> require_choice(("full", "hierarchical"), mode="half")
        Traceback (most recent call last):
        ValueError: 'mode' must be one of ('full', 'hierarchical') (got 'half')
    """
    for name, value in options.items():
        if value not in allowed:
            raise ValueError(f"{name!r} must be one of {allowed} (got {value!r})")
