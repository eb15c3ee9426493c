"""The parts of a job, made on Ray Data."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from pyg_kd.shards.folder import Folder
from pyg_kd.shards.parts import Part, Report


def check_ray() -> None:
    r"""Find out whether Ray is there.

    Raises:
        ImportError: If it is not installed, with the command that installs it.
    """
    try:
        import_module("ray.data")
    except ImportError as error:
        raise ImportError(
            "engine='ray' needs ray: pip install 'pyg_kd[ray]'", name="ray"
        ) from error


class Maker:
    """An actor that makes parts. The folder has to be the same one on all nodes."""

    def __init__(self, place: Any) -> None:
        self.place: Folder = import_module("ray").get(place[0])

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Make a part."""
        part = Part(str(row["name"]), int(row["start"]), int(row["stop"]))
        with self.place.job.working():
            self.place.make(part, lambda count: None)
        return {"rows": len(part)}


def run_ray(place: Folder, parts: Sequence[Part], workers: int, report: Report) -> None:
    """Make parts by ``workers`` actors, on the cluster that is connected or on this machine."""
    ray, data = import_module("ray"), import_module("ray.data")
    with _connected(ray, workers):
        rows = data.from_items([part._asdict() for part in parts], override_num_blocks=len(parts))
        # In a list: what is passed directly would be fetched by the driver.
        made = rows.map(
            Maker, fn_constructor_args=([ray.put(place)],), concurrency=min(workers, len(parts))
        )
        for row in made.iter_rows():
            report(int(row["rows"]))


@contextmanager
def _connected(ray: Any, workers: int) -> Iterator[None]:
    """A connection to Ray, one of our own if there is none."""
    own = not ray.is_initialized()
    if own:
        ray.init(
            num_cpus=workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            configure_logging=False,
        )
    context = import_module("ray.data").DataContext.get_current()
    shown, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        yield
    finally:
        context.enable_progress_bars = shown
        if own:
            ray.shutdown()
