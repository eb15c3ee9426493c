"""Logs as lines of JSON, without anything that clients sent."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import datetime, timezone
from typing import Any, TextIO

log = logging.getLogger("pyg_kd.service")


class Lines(logging.Formatter):
    r"""A record as one line of JSON: time, level, process, event, and what is told of it.

    Of an exception only type and places are told: its message may quote what a client sent.

    Example:
        >>> told = {"told": {"bundle": "ab12"}}
        >>> record = logging.makeLogRecord({"msg": "serving", "levelname": "INFO", **told})
        >>> json.loads(Lines().format(record))["event"]
        'serving'
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        time = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": record.process,
            "event": record.getMessage(),
            **getattr(record, "told", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line |= places_of(record.exc_info[1])
        return json.dumps(line, separators=(",", ":"))


def places_of(error: BaseException) -> dict[str, Any]:
    """The type of an exception and the places it came through, the last eight."""
    trace, places = error.__traceback__, []
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{os.path.basename(code.co_filename)}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return {"error": type(error).__name__, "at": places[-8:]}


def tell(event: str, level: int = logging.INFO, **told: object) -> None:
    """Log an event of the service."""
    log.log(level, event, extra={"told": told})


def tell_failed_start(error: Exception) -> None:
    """Log why a worker ends before it has answered anything."""
    tell("could not start", logging.ERROR, reason=str(error), **places_of(error))


def log_lines(level: str, stream: TextIO | None = None) -> None:
    """Send the logs of the service and of its server to a stream, by default standard error."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Lines())
    # Starlette hands an error at the start to the server as a text of many lines, but it is told
    # already.
    handler.addFilter(lambda record: not record.getMessage().startswith("Traceback "))
    for name, least in (("pyg_kd.service", level.upper()), ("uvicorn", "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(least)
