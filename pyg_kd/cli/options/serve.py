"""The options of the command ``serve``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Served:
    """What is served, and where

    Args:
        bundle: The folder of a bundle, such as RUN/bundle.
        host: The address to listen at; by default only this machine can connect.
        port: The port; 0 takes any that is free, which the log tells.
        workers: How many processes answer; they share the tables.
        token: The bearer token that clients must send; by default that in the environment
            variable PYG_KD_TOKEN, which other users of the machine cannot see, or else none.
        open_to_all: Listen without a token at an address that other machines reach.
        events: The file to which clicks are written; BUNDLE.events by default.
        backend: What ranks items: numpy, torch, faiss-flat, faiss-ivf, faiss-hnsw or hnswlib.
        log_level: What is logged, as lines of JSON on standard error.
    """

    bundle: str = field(metadata={"positional": True})
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    token: str | None = None
    open_to_all: bool = False
    events: str | None = None
    backend: str = "numpy"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True)
class Page:
    """The page under /

    Args:
        teacher: The folder of another bundle to show beside it, such as RUN/teacher.
        titles: A CSV, TSV or Parquet file with the titles of items.
        item: Its column of the items.
        title: Its column of the titles.
    """

    teacher: str | None = None
    titles: str | None = None
    item: str = "item"
    title: str = "title"


@dataclass(frozen=True)
class Allowed:
    """Limits

    Args:
        body_bytes: Largest body of a request.
        head_bytes: Largest head of a request.
        read_seconds: How long a client may take to send a head, and then a body.
        idle_seconds: How long a connection without a request is kept.
        stop_seconds: How long requests that run may take after the service was told to stop.
        hang_seconds: How long a worker may do nothing before it is killed and replaced.
        waiting: Most requests that wait to be answered; further ones get a 503.
        open: Most requests that are read or answered at the same time.
        batch: Most requests that are answered together.
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
