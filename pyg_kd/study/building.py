"""Models, methods and trainers from recipes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from inspect import signature
from typing import Any

import torch
from torch_geometric.data import HeteroData

from pyg_kd import distill, models, training
from pyg_kd.distill import Distillation
from pyg_kd.models import MF, Recommender
from pyg_kd.models.spectral import start_from_spectrum
from pyg_kd.study.binding import nearest
from pyg_kd.study.data import check_names
from pyg_kd.study.own_classes import is_own, own_class
from pyg_kd.training import AlternatingLeastSquares, Trainer

#: The factorisation whose tables are solved for, not trained.
ALS = AlternatingLeastSquares.__name__

#: Classes of :mod:`pyg_kd.models` that a study can make of a graph and a width.
MODELS = tuple(n for n in models.__all__ if isinstance(getattr(models, n), type))
MODELS = tuple(n for n in MODELS if issubclass(getattr(models, n), Recommender))
MODELS = tuple(n for n in MODELS if getattr(models, n) is not Recommender)  # which is abstract

METHODS = tuple(sorted({*distill.__all__} - {Distillation.__name__}))


def model_class(name: str, place: str) -> Any:
    r"""A model's class by its name; of alternating least squares, their own class.

    Args:
        name: Its name, or ``module:Class``.
        place: Where it stands, for messages.

    Raises:
        ValueError: If there is none.
    """
    if is_own(name):
        return own_class(name, Recommender, place)
    known = (*MODELS, ALS)
    if name not in known:
        raise ValueError(f"{place}: there is no model {name!r}{_meant(name, known)}")
    return AlternatingLeastSquares if name == ALS else getattr(models, name)


def is_trained(name: str) -> bool:
    """Whether a model is trained by a :class:`~pyg_kd.training.Trainer`."""
    return name != ALS and bool(model_class(name, "model").trainable)


def method_class(name: str, place: str) -> Any:
    r"""A method's class by its name.

    Args:
        name: Its name, or ``module:Class``.
        place: Where it stands, for messages.

    Raises:
        ValueError: If there is none.
    """
    if is_own(name):
        return own_class(name, Distillation, place)
    if name not in METHODS:
        raise ValueError(f"{place}: there is no method {name!r}{_meant(name, METHODS)}")
    return getattr(distill, name)


def make_method(component: Mapping[str, Any], place: str) -> Distillation:
    r"""A method of a component.

    Raises:
        ValueError: If there is none, or it refuses its options.
    """
    kind = method_class(str(component["method"]), place)
    check_names(kind, component["options"], place)
    try:
        made: Distillation = kind(**component["options"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from error
    return made


def make_trainer(options: Mapping[str, Any], place: str, **fixed: Any) -> Trainer:
    r"""A trainer, whose loss may be the name of a class with its arguments.

    Raises:
        ValueError: If it refuses its options.
    """
    check_names(Trainer, options, place)
    chosen = {**options, **fixed}
    if isinstance(chosen.get("loss"), Mapping):
        chosen["loss"] = make_loss(chosen["loss"], place)
    try:
        return Trainer(**chosen, progress=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from error


def make_loss(given: Mapping[str, Any], place: str) -> torch.nn.Module:
    r"""A base loss of the name of its class with its arguments.

    Raises:
        ValueError: If there is none, or it refuses its options.
    """
    if len(given) != 1:
        raise ValueError(f"{place}: 'loss' must name one class (got {[*given]})")
    ((name, options),) = given.items()
    kind = getattr(training, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, torch.nn.Module)):
        raise ValueError(f"{place}: there is no loss {name!r}")
    check_names(kind, options or {}, place)
    try:
        return kind(**(options or {}))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from error


def make_model(recipe: Mapping[str, Any], graph: HeteroData) -> Recommender:
    """The model of a recipe, made for a graph, its first weights drawn by the recipe's seed."""
    name, dim = recipe["class"], recipe["dim"]
    options = recipe["model"] if "model" in recipe else recipe["options"]
    torch.manual_seed(recipe["seed"])
    if name == ALS:
        return MF(graph, dim)
    kind = model_class(name, "model")
    width = {} if dim is None or "dim" not in signature(kind).parameters else {"dim": dim}
    model: Recommender = kind(graph, **width, **options)
    return start_from_spectrum(model, graph) if recipe.get("start") == "spectral" else model


def _meant(name: str, known: Collection[str]) -> str:
    """What may have been meant; a dotted name is a class of one's own."""
    module, _, last = name.rpartition(".")
    return f", did you mean '{module}:{last}'?" if module else nearest(name, known)
