"""Models by name, made for a graph."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any, get_args

import torch
from torch_geometric.data import HeteroData

from pyg_kd import models
from pyg_kd.checks import require_choice
from pyg_kd.models import Recommender
from pyg_kd.models.spectral import STARTS, start_from_spectrum, two_tables
from pyg_kd.training.teachers import Name

#: The class of each name.
CLASSES: dict[str, type[Recommender]] = {
    "lightgcn": models.LightGCN,
    "mf": models.MF,
    "ngcf": models.NGCF,
    "cml": models.CML,
    "neumf": models.NeuMF,
    "multvae": models.MultVAE,
    "itemae": models.ItemAE,
    "gfcf": models.GFCF,
    "ease": models.EASE,
}

#: The teacher that is several, chosen by the size of the data, and the names of its members.
ENSEMBLE, NAMES = "ensemble", get_args(Name)


def is_run(teacher: str) -> bool:
    """Whether the word for a teacher is the folder of a run; a name is none, whatever lies there.

    Example:
        >>> is_run("."), is_run("ensemble")
        (True, False)
    """
    return teacher not in {ENSEMBLE, *NAMES, *CLASSES} and Path(teacher).expanduser().is_dir()


def make_model(
    name: str,
    graph: HeteroData,
    dim: int | None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    *,
    started: bool = True,
) -> Recommender:
    r"""Make a model for a graph, its first weights drawn by a seed.

    Args:
        name: One of :data:`CLASSES`.
        graph: The training graph.
        dim: Its width; not used by a model without one.
        options: Further arguments of its class, and ``start``, which is ``"spectral"`` for
            singular vectors as first embeddings.
        seed: The seed.
        started: Whether singular vectors are computed; without, they could be.

    Raises:
        ValueError: If the class has no such option, or refuses its value.
    """
    kind = CLASSES[name]
    known = set(signature(kind).parameters) - {"data", "dim"}
    chosen = dict(options or {})
    start = chosen.pop("start", None)
    if start is not None:
        require_choice(STARTS, start=start)
    for option in chosen:
        if option not in known:
            raise ValueError(
                f"{kind.__name__} has no option {option!r}: it has {', '.join(sorted(known))}"
            )
    if "dim" in signature(kind).parameters and dim is not None:
        chosen["dim"] = dim
    torch.manual_seed(seed)
    model = kind(graph, **chosen)
    if start is not None:
        (start_from_spectrum if started else two_tables)(model, graph)
    return model
