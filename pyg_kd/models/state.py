"""What a state says of its model besides tensors: the class, its structure, and its graph."""

from __future__ import annotations

import json
from typing import Any, Protocol

import torch
from torch import Tensor


class HasStructure(Protocol):
    """A model as far as its state needs to know it."""

    @property
    def structure(self) -> tuple[str, ...]:
        """Options that change what the same tensors compute."""


def pack(model: HasStructure, fitted_on: str | None) -> Tensor:
    """Class, structure and graph of a model as UTF-8, uint8 ``[n]``: whatever takes tensors, as
    safetensors does, takes it too.
    """
    told = {
        "class": type(model).__name__,
        "structure": {name: getattr(model, name) for name in model.structure},
        "fitted_on": (fitted_on or "").ljust(64),  # states of one model have one size
    }
    return torch.frombuffer(bytearray(json.dumps(told).encode()), dtype=torch.uint8)


def unpack(state: object) -> dict[str, Any]:
    """What :func:`pack` wrote; nothing, if it was something else that did."""
    if not isinstance(state, Tensor) or state.dtype != torch.uint8:
        return {}
    try:
        told = json.loads(bytes(state.tolist()))
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def graph_of(state: object) -> str | None:
    """The fingerprint of the graph that a saved model was fitted on, where that is known."""
    return str(unpack(state).get("fitted_on", "")).strip() or None


def check_class(model: HasStructure, told: dict[str, Any]) -> None:
    """Raise ``ValueError`` if a state is of another class, or computes something else.

    Tensors of the same names and shapes do not make the same model.
    """
    own = unpack(pack(model, None))
    if told.get("class", own["class"]) != own["class"]:
        raise ValueError(
            f"the state is of {told['class']}, the model is {own['class']}: load it into a "
            f"{told['class']}, or leave '_extra_state' out of it to copy the tensors nevertheless"
        )
    for name, value in own["structure"].items():
        found = told.get("structure", {}).get(name, value)
        if found != value:
            raise ValueError(
                f"the state is of {own['class']} with {name}={found!r}, the model has "
                f"{name}={value!r}"
            )
