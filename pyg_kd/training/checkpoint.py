"""State of a run on disk: written atomically, read without being executed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

#: What reading raises for a file that is cut off, or was never a checkpoint.
DAMAGE = (
    RuntimeError,
    OSError,  # a seek before the beginning
    EOFError,
    pickle.UnpicklingError,
    ValueError,
    LookupError,
    AttributeError,
)


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write ``state`` under ``path``, where it appears only once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(state, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, key: dict[str, Any]) -> dict[str, Any]:
    r"""Read a state back and check that it belongs to this run.

    Args:
        path: The checkpoint.
        key: What must be the same for the run to continue to the same bits.

    Raises:
        ValueError: If the file is damaged or belongs to another run.
    """
    with path.open("rb") as file:
        try:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except DAMAGE as error:
            raise ValueError(f"{str(path)!r} is truncated or no checkpoint of a trainer") from error
    found = state.get("key") if isinstance(state, dict) else None
    if not isinstance(found, dict):
        raise ValueError(f"{str(path)!r} is no checkpoint of a trainer")
    for name, value in key.items():
        if found.get(name) != value:
            raise ValueError(
                f"{str(path)!r} is of another run: {name} was {found.get(name)!r}, is {value!r}; "
                "take another 'checkpoint_dir', or delete the file"
            )
    return state
