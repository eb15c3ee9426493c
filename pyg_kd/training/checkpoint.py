"""State of a run on disk: written as a whole, checked when read, never executed."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, BinaryIO

import torch
from torch import Tensor

from pyg_kd.files import atomic_write, sha256_of
from pyg_kd.training.history import is_count, is_row
from pyg_kd.training.objective import Objective

#: What reading raises for a file that is cut off, or was never a checkpoint.
LOAD_ERRORS = (
    RuntimeError,
    OSError,  # a seek before the beginning
    EOFError,
    pickle.UnpicklingError,
    ValueError,
    LookupError,
    AttributeError,
)

#: A checkpoint is a zip archive, as PyTorch writes it, with its checksum as the comment.
MARK = b"pyg_kd checkpoint 2 sha256 "
SEAL_SIZE = len(MARK) + 64


def _is_state(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def _is_optimizer(value: object) -> bool:
    state, groups = (
        value.get(k) if isinstance(value, dict) else 0 for k in ("state", "param_groups")
    )
    moments = isinstance(state, dict) and all(isinstance(m, dict) for m in state.values())
    return moments and isinstance(groups, list) and all(isinstance(g, dict) for g in groups)


#: Fields of a checkpoint, and what tells a valid value.
FIELDS: dict[str, Callable[[Any], bool]] = {
    "key": lambda value: isinstance(value, dict),
    "objective": _is_state,
    "optimizer": _is_optimizer,
    "average": _is_state,
    "best": lambda value: value is None or _is_state(value),
    "best_value": lambda value: isinstance(value, float) and value == value,
    "best_epoch": lambda value: value is None or is_count(value),
    "epoch": is_count,
    "stale": is_count,
    "rows": lambda value: isinstance(value, list) and all(map(is_row, value)),
}


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write ``state`` under ``path``, where it appears only once it is complete."""
    with atomic_write(path) as temporary:
        torch.save(state, temporary)
        _seal(temporary)


def load_checkpoint(path: Path, key: dict[str, Any]) -> dict[str, Any]:
    r"""Read a state back and check that it belongs to this run.

    Args:
        path: The checkpoint.
        key: What must be the same for the run to continue to the same bits.

    Raises:
        ValueError: If the file is damaged or from another run.
    """
    with path.open("rb") as file:
        _check_seal(file, path)
        try:
            state: object = torch.load(file, map_location="cpu", weights_only=True)
        except LOAD_ERRORS as error:
            raise ValueError(f"{str(path)!r} is not a Trainer checkpoint ({error})") from error
    checked = _checked(state, path)
    found = checked["key"]
    for name, value in key.items():
        if found.get(name) != value:
            raise ValueError(
                f"{str(path)!r} is from another run: {name} was {found.get(name)!r}, is {value!r}; "
                "use another 'checkpoint_dir', or delete the file"
            )
    return checked


def check_fits(
    state: dict[str, Any], objective: Objective, groups: list[dict[str, Any]], path: Path
) -> None:
    """Raise ``ValueError`` unless a state has the tensors of an objective and its optimiser."""
    check_tensors(state["objective"], objective.state_dict(), path)
    if state["best"] is not None:
        check_tensors(state["best"], objective.model.state_dict(), path)
    check_moments(state["optimizer"], groups, path)


def check_tensors(found: Mapping[str, object], expected: Mapping[str, object], path: Path) -> None:
    """Raise ``ValueError`` unless a saved state has the tensors of a module."""
    for name in dict.fromkeys([*expected, *found]):
        saved, own = (
            f"{list(x.shape)} {x.dtype}" if isinstance(x, Tensor) else "missing"
            for x in (found.get(name), expected.get(name))
        )
        if saved != own:
            raise ValueError(
                f"{str(path)!r} does not fit this run: {name!r} is {saved} there, {own} here"
            )


def check_moments(state: dict[str, Any], groups: list[dict[str, Any]], path: Path) -> None:
    """Raise ``ValueError`` unless a saved state of Adam fits its parameters."""
    params = [param for group in groups for param in group["params"]]
    found = [len(group.get("params", ())) for group in state["param_groups"]]
    if found != [len(group["params"]) for group in groups]:
        raise ValueError(f"{str(path)!r} does not fit this run: it optimises other parameters")
    for index, moments in state["state"].items():
        for name, value in moments.items():
            known = is_count(index) and index < len(params) and isinstance(value, Tensor)
            if not known or (value.dim() and value.shape != params[index].shape):
                raise ValueError(
                    f"{str(path)!r} does not fit this run: {name!r} of parameter {index} is "
                    f"{shortened(value)}"
                )


def _checked(state: object, path: Path) -> dict[str, Any]:
    """A state with all of its fields."""
    if not isinstance(state, dict):
        raise ValueError(f"{str(path)!r} is not a Trainer checkpoint")
    for name, valid in FIELDS.items():
        if name not in state or not valid(state[name]):
            found = shortened(state[name]) if name in state else "nothing"
            raise ValueError(
                f"{str(path)!r} is not a Trainer checkpoint: invalid {name!r} (got {found})"
            )
    last = -1 if state["best_epoch"] is None else state["best_epoch"]
    if not last < state["epoch"] == len(state["rows"]):
        raise ValueError(
            f"{str(path)!r} is not a Trainer checkpoint: it has {len(state['rows'])} rows for "
            f"{state['epoch']} epochs, the best of which is {state['best_epoch']}"
        )
    return state


def _seal(path: Path) -> None:
    """Put the checksum of an archive into its comment, which is empty so far."""
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(SEAL_SIZE.to_bytes(2, "little"))  # length of the comment
        size = file.tell()
        file.seek(0)
        seal = MARK + sha256_of(file, size).encode()
        file.write(seal)


def _check_seal(file: BinaryIO, path: Path) -> None:
    size = max(file.seek(0, os.SEEK_END) - SEAL_SIZE, 0)
    file.seek(size)
    seal = file.read()
    if not seal.startswith(MARK):
        raise ValueError(f"{str(path)!r} is truncated, or not a Trainer checkpoint")
    file.seek(0)
    if seal != MARK + sha256_of(file, size).encode():
        raise ValueError(f"{str(path)!r} is damaged: its checksum does not fit its content")
    file.seek(0)
