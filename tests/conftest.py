"""What every test file may use: the folder of real data, and reproducible runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# The oracle of the metrics compiles for most of a minute and then computes for a moment.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

# The first example of a property often pays for a compilation, so no deadline;
# a failure must be the same on every machine, so no random search.
settings.register_profile("suite", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    """A device; CUDA is skipped where there is none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return str(request.param)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder that holds ``gowalla/`` and ``citeulike/``; skips where there is none."""
    root = os.environ.get("PYG_KD_DATA")
    if not root:
        pytest.skip("PYG_KD_DATA names no folder with the real data")
    path = Path(root)
    if not path.is_dir():
        raise FileNotFoundError(f"PYG_KD_DATA is no folder (got {root!r})")
    return path
