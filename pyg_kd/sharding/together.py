"""What processes do so that all of them go on, or none does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import distributed as dist

T = TypeVar("T")


def together(check: Callable[[], T]) -> T:
    r"""Call a function in every process; where one raises ``ValueError``, all do.

    Otherwise the others would wait for it.

    Raises:
        ValueError: The first of them.
    """
    value, told = None, None
    try:
        value = check()
    except ValueError as error:
        told = str(error)
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, told)
    for text in gathered:
        if text is not None:
            raise ValueError(text)
    return value  # type: ignore[return-value]


def first_does(function: Callable[[], T]) -> T:
    r"""Call a function in the first process, and give what it returns to all.

    Raises:
        Exception: What it raised, in all processes.
    """
    told: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            told[0] = function()
        except Exception as error:
            told[1] = error
    dist.broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    value: T = told[0]
    return value


def check_alike(described: dict[str, Any]) -> None:
    """Raise ``ValueError`` in every process unless all of them described their run alike."""
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, described)
    for rank, other in enumerate(gathered):
        for name in described:
            if other[name] != gathered[0][name]:
                raise ValueError(
                    f"all processes need the same run, but {name} is {gathered[0][name]!r} in "
                    f"process 0 and {other[name]!r} in process {rank}"
                )
