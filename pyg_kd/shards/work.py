"""Doing a job in this process, in several, or on another engine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from pyg_kd.checks import require_choice, require_count
from pyg_kd.locks import locked
from pyg_kd.progress import Progress
from pyg_kd.shards.folder import Folder
from pyg_kd.shards.parts import Job, Part
from pyg_kd.shards.processes import run_here, run_processes
from pyg_kd.shards.ray_data import check_ray, run_ray

ENGINES = ("process", "ray")

#: Seconds that workers of a killed launcher may still hold its lock.
GRACE = 2.0

#: Seconds that one of several processes waits for another to make room, and between two looks.
PATIENCE, PAUSE = 60.0, 0.05


class Share(NamedTuple):
    """Which one of how many processes, that share the work without talking to each other."""

    rank: int
    world_size: int

    @classmethod
    def of(cls, rank: int | None, world_size: int | None) -> Share:
        r"""As told, or else as ``RANK`` and ``WORLD_SIZE`` of the environment tell.

        Raises:
            ValueError: If one is told without the other, or they do not fit.
        """
        if rank is None and world_size is None:
            rank, world_size = (_number(n, d) for n, d in (("RANK", 0), ("WORLD_SIZE", 1)))
        if rank is None or world_size is None:
            raise ValueError(
                f"'rank' and 'world_size' belong together (got {rank!r} and {world_size!r})"
            )
        require_count(world_size=world_size)
        require_count(0, rank=rank)
        if rank >= world_size:
            raise ValueError(f"'rank' must lie in 0..{world_size - 1} (got {rank})")
        return cls(int(rank), int(world_size))


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name!r} in the environment must be an integer (got {text!r})") from None


def run_job(
    job: Job,
    folder: str | os.PathLike[str],
    *,
    workers: int = 1,
    engine: str = "process",
    rank: int | None = None,
    world_size: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
    label: str = "ranking",
) -> bool:
    r"""Make the parts of a job that are not there yet.

    Args:
        job: What is made.
        folder: Where it goes. What is there of the same request is kept, anything else refused.
        workers: Processes on this machine, or actors of Ray.
        engine: ``"process"`` or ``"ray"``.
        rank: Which of several processes this is that were started elsewhere and see the same
            folder; by default as the environment tells, ``RANK`` and ``WORLD_SIZE``.
        world_size: How many they are. Each takes every ``world_size``-th part, and the last one
            does the rest.
        overwrite: Replace shards of another request.
        progress: Show progress on the standard error stream.
        label: What is going on, for progress.

    Returns:
        Whether the folder is complete; false where other processes are still at work.

    Raises:
        ImportError: If the engine is not installed.
        ValueError: If an option is wrong, or the folder holds something else or is at work.
        RuntimeError: If a worker ended before its work was done.
    """
    require_count(workers=workers)
    require_choice(ENGINES, engine=engine)
    if engine == "ray":
        check_ray()
    share = Share.of(rank, world_size)
    if share.world_size > 1 and (workers > 1 or engine != "process" or overwrite):
        raise ValueError(
            "'workers', 'engine' and 'overwrite' must be left alone where several processes share "
            f"the work (got world_size={share.world_size})"
        )
    place = Folder(Path(folder), job)
    place.path.mkdir(parents=True, exist_ok=True)
    if share.world_size > 1:
        return _share(place, share, _shown(progress, label))
    with _held(place.path):
        if not place.begin(overwrite):
            for stage in job.stages:
                _stage(place, stage, workers, engine, _shown(progress, label))
            place.finish()
        place.tidy()
    return True


Show = Callable[[int, int], Progress]


def _shown(progress: bool, label: str) -> Show:
    def show(total: int, done: int) -> Progress:
        return Progress(label, total, unit="row", initial=done, shown=progress, keep=False)

    return show


def _stage(place: Folder, parts: Sequence[Part], workers: int, engine: str, show: Show) -> None:
    """Make the parts of a stage that are not there."""
    left = [part for part in parts if not place.done(part, verify=True)]
    total, rest = (sum(len(part) for part in some) for some in (parts, left))
    with show(total, total - rest) as shown:
        if engine == "ray" and left:
            run_ray(place, left, workers, shown.update)
        elif workers > 1 and len(left) > 1:
            run_processes(place, left, min(workers, len(left)), shown.update)
        else:
            run_here(place, left, shown.update)


def _share(place: Folder, share: Share, show: Show) -> bool:
    """Make this process's parts of the first stage, and the rest if it is the last to end."""
    if _begin_together(place):
        return True
    first, *later = place.job.stages
    _stage(place, first[share.rank :: share.world_size], 1, "process", show)
    if not all(place.done(part) for part in first):
        return place.is_complete()  # the others may have ended meanwhile
    held = _lock(place.path)
    if held is None:  # another one does the rest
        return place.is_complete()
    with held:
        if not place.is_complete():
            for stage in later:
                _stage(place, stage, 1, "process", show)
            place.finish()
        place.tidy()
    return True


def _begin_together(place: Folder) -> bool:
    """Make room once, whoever comes first; whether all is done already."""
    for _ in range(int(PATIENCE / PAUSE)):
        if place.is_begun():
            return place.is_complete()
        if (held := _lock(place.path)) is not None:
            with held:
                return place.begin(overwrite=False)
        time.sleep(PAUSE)
    raise ValueError(f"another process has been at work in '{place.path}' for {PATIENCE:.0f} s")


def _held(path: Path) -> ExitStack:
    """The lock of a folder, soon or never."""
    end = time.monotonic() + GRACE
    while (held := _lock(path)) is None:
        if time.monotonic() > end:
            raise ValueError(f"another process is at work in '{path}'")
        time.sleep(PAUSE)
    return held


def _lock(path: Path) -> ExitStack | None:
    """The lock of a folder, or nothing if another process has it."""
    held = ExitStack()
    try:
        held.enter_context(locked(path))
    except ValueError:
        return None
    return held
