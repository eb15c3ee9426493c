"""The processes of a run, launched by Lightning Fabric."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from pyg_kd.training.failures import end_with_launcher, wait_for_children
from pyg_kd.training.options import Options

#: PyTorch renamed the option that keeps DDP from sending buffers at every step.
BUFFER_OPTION = "broadcast_buffers"
if "forward_sync_buffers" in signature(DistributedDataParallel).parameters:
    BUFFER_OPTION = "forward_sync_buffers"


def make_fabric(options: Options) -> Fabric:
    """Launch the processes that a run takes."""
    strategy: Any = options.strategy
    if options.devices > 1 and strategy in ("auto", "ddp"):
        # A run sends what has to be sent itself. The seed makes the buffers of methods equal in all
        # processes, and some have types that cannot be sent.
        nothing: dict[str, Any] = {BUFFER_OPTION: False}
        if "init_sync" in signature(DistributedDataParallel).parameters:
            nothing["init_sync"] = False
        strategy = DDPStrategy(**nothing)
    if options.devices > 1:
        end_with_launcher()
    with _warnings_only(not options.progress):
        fabric = Fabric(
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=num_machines() if options.devices > 1 else 1,
            strategy=strategy,
            precision=options.precision,
        )
        fabric.launch()
    if children := getattr(fabric.strategy.launcher, "procs", None):
        atexit.register(wait_for_children, children)
    return fabric


def num_machines() -> int:
    """Machines on which ``torchrun`` has started processes; 1 without it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 1
    return int(os.environ["WORLD_SIZE"]) // int(os.environ["LOCAL_WORLD_SIZE"])


@contextmanager
def _warnings_only(active: bool) -> Iterator[None]:
    """Keep Fabric from logging its choice of precision and processes if ``active``."""
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    if active:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
