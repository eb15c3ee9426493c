"""The state of a model in a file."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pyg_kd.files import atomic_write
from pyg_kd.models.base import Recommender


def save_state(model: Recommender, path: Path) -> None:
    """Write the state of a model to a safetensors file, atomically."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with atomic_write(path) as temporary:
        save_file(state, temporary)


def load_state(model: Recommender, path: Path) -> None:
    r"""Read the state of a model.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, or of another model.
    """
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        name = type(model).__name__
        raise ValueError(f"'{path}' is no state of this {name} ({error})") from error
