"""The methods' own parameters and their optimiser, as tensors by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

#: Names of what follows in a file.
STATE, ADAM = "state.", "adam."


def method_tensors(methods: nn.Module, adam: torch.optim.Adam | None) -> dict[str, Tensor]:
    """Everything that training changes in methods and their optimiser."""
    found = {f"{STATE}{name}": x for name, x in methods.state_dict().items()}
    if adam is not None:
        for place, moments in adam.state_dict()["state"].items():
            found |= {f"{ADAM}{place}.{name}": x for name, x in moments.items()}
    # Tensors of a file must not share memory, and tables may be given by several names.
    return {name: x.detach().clone() for name, x in found.items() if isinstance(x, Tensor)}


def read_method_tensors(
    paths: Sequence[Path], methods: nn.Module, adam: torch.optim.Adam | None
) -> dict[str, Tensor]:
    """What such files hold, checked against the methods; none where methods have nothing to keep.

    Raises:
        ValueError: If a tensor is missing, unknown, or of another shape.
    """
    found = {name: x for path in paths for name, x in load_file(path).items()}
    state = {f"{STATE}{name}": x for name, x in methods.state_dict().items()}
    wanted = {name: list(x.shape) for name, x in state.items() if isinstance(x, Tensor)}
    have = {name: list(x.shape) for name, x in found.items() if name.startswith(STATE)}
    parameters = [] if adam is None else adam.param_groups[0]["params"]
    for name, x in found.items():
        if name.startswith(ADAM):
            place, moment = name.removeprefix(ADAM).split(".")
            have[name] = list(x.shape)
            size = list(parameters[int(place)].shape) if int(place) < len(parameters) else None
            wanted[name] = [] if moment == "step" else size  # type: ignore[assignment]
    if have != wanted:
        wrong = sorted(name for name in {*have, *wanted} if have.get(name) != wanted.get(name))
        raise ValueError(
            f"{[str(path) for path in paths]} do not fit this run: {wrong[0]!r} is another one"
        )
    return found


def load_method_tensors(
    found: dict[str, Tensor], methods: nn.Module, adam: torch.optim.Adam | None
) -> None:
    """Put them where they came from."""
    state = {n.removeprefix(STATE): x for n, x in found.items() if n.startswith(STATE)}
    methods.load_state_dict(methods.state_dict() | state)
    if adam is None:
        return
    moments: dict[int, dict[str, Tensor]] = {}
    for name, x in found.items():
        if name.startswith(ADAM):
            place, moment = name.removeprefix(ADAM).split(".")
            moments.setdefault(int(place), {})[moment] = x
    adam.load_state_dict({**adam.state_dict(), "state": moments})
