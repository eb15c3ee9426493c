"""What a service allows, with defaults for a machine of a few cores."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pyg_kd.checks import require_count, require_positive


@dataclass(frozen=True, kw_only=True)
class Limits:
    r"""How much is accepted, and how long anything may take.

    Args:
        body_bytes: Largest body of a request.
        head_bytes: Largest head of a request.
        read_seconds: How long a client may take to send a head, and then a body.
        idle_seconds: How long a connection without a request is kept.
        stop_seconds: How long requests that run may take after the service was told to stop.
        hang_seconds: How long a worker may do nothing before it is killed and replaced.
        waiting: Most requests that wait to be answered; further ones get a 503.
        open: Most requests that are read or answered at the same time.
        batch: Most requests that are answered together. More than 32 made none of them cheaper.

    Raises:
        ValueError: If a limit is not positive.

    Example:
        >>> Limits(batch=0)
        Traceback (most recent call last):
        ValueError: 'batch' must be a positive integer (got 0)
    """

    body_bytes: int = 1 << 20
    head_bytes: int = 1 << 16
    read_seconds: float = 10.0
    idle_seconds: float = 60.0
    stop_seconds: float = 30.0
    hang_seconds: float = 60.0
    waiting: int = 256
    open: int = 1024
    batch: int = 32

    def __post_init__(self) -> None:
        for field in fields(self):
            check = require_positive if field.name.endswith("_seconds") else require_count
            check(**{field.name: getattr(self, field.name)})
