"""The command ``serve``."""

from __future__ import annotations

from pyg_kd.cli.options.serve import Allowed, Page, Served


def serve(served: Served, page: Page, allowed: Allowed) -> None:
    """Serve a bundle over HTTP, with a page to try it, until it is stopped.

    POST /recommend lists items for a user or a history, POST /events notes a click, and
    /openapi.json tells more. SIGTERM stops it when all requests are answered, and a bundle that is
    replaced on disk is taken without losing one.
    """
    from pyg_kd.cli.engine.serve import run_service

    run_service(served, page, allowed)
