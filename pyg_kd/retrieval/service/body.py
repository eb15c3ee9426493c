"""Reading the body of a request within limits of size and time."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from pyg_kd.retrieval.service.refused import Refused


async def read_json(request: Request, *, most: int, seconds: float) -> bytes:
    r"""The body of a request that says it is JSON.

    Args:
        request: The request.
        most: Its largest size in bytes.
        seconds: How long the client may take to send it.

    Raises:
        Refused: With status 415 if it doesn't say so, 413 if it is larger, 408 if it takes
            longer.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json" or "content-encoding" in request.headers:
        raise Refused(415, "the body must be application/json, not encoded otherwise")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length[:20]) > most:
        raise Refused(413, f"the body must have at most {most} bytes")
    task = asyncio.current_task()
    late = False

    def stop() -> None:
        nonlocal late
        late = True
        if task is not None:
            task.cancel()

    # As asyncio.timeout does, which Python 3.10 lacks; wait_for would start a task each time.
    timer = asyncio.get_running_loop().call_later(seconds, stop)
    try:
        return await _read(request, most)
    except asyncio.CancelledError:
        if not late:
            raise
        if task is not None and hasattr(task, "uncancel"):
            task.uncancel()
        raise Refused(408, f"the body took longer than {seconds:g} seconds") from None
    finally:
        timer.cancel()


async def _read(request: Request, most: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise Refused(413, f"the body must have at most {most} bytes")
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
