"""What a saved state holds besides tensors: class, structure and graph of the model."""

from __future__ import annotations

import json
from typing import Any, Protocol

import torch
from torch import Tensor


class HasStructure(Protocol):
    """The part of a model that its saved state describes."""

    @property
    def structure(self) -> tuple[str, ...]:
        """Options that change what the same tensors compute."""


def pack(model: HasStructure, fitted_on: str | None) -> Tensor:
    """Class, structure and graph of a model as UTF-8 bytes, uint8 ``[n]``.

    A tensor, since formats like safetensors store nothing else.
    """
    description = {
        "class": type(model).__name__,
        "structure": {name: getattr(model, name) for name in model.structure},
        "fitted_on": (fitted_on or "").ljust(64),  # padded, so that the size never changes
    }
    return torch.frombuffer(bytearray(json.dumps(description).encode()), dtype=torch.uint8)


def unpack(state: object) -> dict[str, Any]:
    """What :func:`pack` wrote; an empty dictionary for anything else."""
    if not isinstance(state, Tensor) or state.dtype != torch.uint8:
        return {}
    try:
        description = json.loads(bytes(state.tolist()))
    except ValueError:
        return {}
    return description if isinstance(description, dict) else {}


def graph_of(state: object) -> str | None:
    """The fingerprint of the graph that a saved model was fitted on, if known."""
    return str(unpack(state).get("fitted_on", "")).strip() or None


def check_class(model: HasStructure, saved: dict[str, Any]) -> None:
    """Raise ``ValueError`` if a state comes from another class or structure.

    Different models can have tensors of the same names and shapes.
    """
    own = unpack(pack(model, None))
    if saved.get("class", own["class"]) != own["class"]:
        raise ValueError(
            f"the state was saved by {saved['class']}, the model is {own['class']}: load it into "
            f"{saved['class']}, or remove '_extra_state' from it to copy the tensors anyway"
        )
    for name, value in own["structure"].items():
        found = saved.get("structure", {}).get(name, value)
        if found != value:
            raise ValueError(
                f"the state was saved by {own['class']} with {name}={found!r}, the model has "
                f"{name}={value!r}"
            )
