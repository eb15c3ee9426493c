"""The options of commands whose work several processes can share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Sharing:
    """Who does the work

    Args:
        workers: Processes on this machine, or actors of Ray.
        worker_threads: Threads of each of them; on it the last bits of scores may depend.
        engine: What runs them: processes, or Ray Data on the cluster that is connected or else on
            this machine.
        rank: Which of several processes this is that were started elsewhere and see the same
            folder, from 0; by default as RANK and WORLD_SIZE of the environment tell, which
            torchrun sets.
        world_size: How many they are.
    """

    workers: int = 1
    worker_threads: int = 1
    engine: Literal["process", "ray"] = "process"
    rank: int | None = None
    world_size: int | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The options by the names that functions have for them."""
        found = asdict(self)
        return found | {"threads": found.pop("worker_threads")}
