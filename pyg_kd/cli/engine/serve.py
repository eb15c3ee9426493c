"""What ``serve`` does."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyg_kd.cli.options.serve import Allowed, Page, Served
from pyg_kd.cli.pairs import as_ids, read_pairs
from pyg_kd.retrieval import load_student

#: The environment variable with the token.
TOKEN = "PYG_KD_TOKEN"


def run_service(served: Served, page: Page, allowed: Allowed) -> None:
    """Serve until a signal."""
    bundle = Path(served.bundle).expanduser()
    titles = None if page.titles is None else read_titles(page, bundle)
    try:
        import uvicorn  # noqa: F401  (workers import it, whose errors are in the log alone)

        from pyg_kd.retrieval.service.options import Limits
        from pyg_kd.retrieval.service.server import serve
    except ImportError as error:
        raise ImportError(f"'serve' needs {error.name}: pip install 'pyg_kd[serve]'") from error
    serve(
        bundle,
        served.host,
        served.port,
        workers=served.workers,
        token=served.token or os.environ.get(TOKEN) or None,
        open_to_all=served.open_to_all,
        events=served.events,
        teacher=page.teacher,
        titles=titles,
        limits=Limits(**asdict(allowed)),
        backend=served.backend,
        log_level=served.log_level,
    )


def read_titles(page: Page, bundle: Path) -> dict[Any, str]:
    """The titles of a file by the ids of a bundle."""
    pairs = list(read_pairs(Path(str(page.titles)).expanduser(), page.item, page.title))
    ids = as_ids([item for item, _ in pairs], load_student(bundle, verify=False).items)
    titles = (str(title) for _, title in pairs)
    return {item: title for item, title in zip(ids, titles, strict=True) if item is not None}
