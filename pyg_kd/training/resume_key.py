"""What two runs must have in common for one to continue the other to the same bits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import partial
from inspect import signature
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.distill.base import Distillation
from pyg_kd.graph import interactions, tensors_of
from pyg_kd.knowledge.requirements import CARRIED
from pyg_kd.knowledge.values import PLACES, ROWS
from pyg_kd.training.objective import Objective
from pyg_kd.training.options import Options

#: Options that change what an epoch computes.
RESUME_KEYS = (
    "batch_size",
    "batch_by",
    "batches_per_step",
    "num_neighbors",
    "lr",
    "schedule",
    "warmup",
    "final_lr",
    "average",
    "weight_decay",
    "sparse",
    "base_weight",
    "num_negatives",
    "seed",
)

#: Options that change which weights are the best, where there is a validation graph.
VALIDATION_KEYS = ("metric", "evaluate_every", "restore_best")

#: Entries of a tensor that are hashed at once.
PART = 1 << 18


def resume_key(
    options: Options,
    objective: Objective,
    data: HeteroData,
    val_data: HeteroData | None,
) -> dict[str, Any]:
    """Everything that decides the result of a run, as plain values to save and compare.

    The number of processes is no part of it: it decides how sums are rounded, and nothing else.
    """
    methods, validated = objective.distillations, val_data is not None
    scheduled = options.schedule != "constant" or options.warmup > 0
    evaluator = None if options.evaluator is None else describe_callable(options.evaluator)
    return {
        **{name: getattr(options, name) for name in RESUME_KEYS},
        "precision": str(options.precision),
        # A run without methods, whose learning rate knows no end, can be made longer.
        "max_epochs, over which methods anneal,": options.max_epochs if methods else None,
        "max_epochs, which the learning rate follows,": options.max_epochs if scheduled else None,
        "model": describe(objective.model),
        "loss": None if objective.loss is None else describe(objective.loss),
        "distillations": [describe(method) for method in methods],
        "weights": objective.weights,
        "graph": digest([("edges", interactions(data).edge_index), *_tensors(data, CARRIED)]),
        "knowledge": digest(_knowledge(data, methods)) if methods else None,
        "val_data": None if val_data is None else digest(_tensors(val_data, CARRIED)),
        "evaluator": evaluator if validated else None,
        **{name: getattr(options, name) if validated else None for name in VALIDATION_KEYS},
    }


def describe(module: nn.Module) -> str:
    r"""What a module prints, and the options of its parts that they do not print.

    An option is a plain value or a function kept under the name of a constructor's argument, as
    in scikit-learn. So checkpoints notice the options of a user's own classes, whatever they print.

    Example:
        >>> class Margin(nn.Module):
        ...     def __init__(self, margin):
        ...         super().__init__()
        ...         self.margin = margin
        >>> describe(Margin(0.5)), describe(nn.Dropout(0.5))
        ('Margin() margin=0.5', 'Dropout(p=0.5, inplace=False)')
    """
    printed = repr(module)
    hidden = [
        f"{path}.{option}" if path else option
        for path, part in module.named_modules()
        for option in [*_options(part), *_functions(part)]
        if not re.search(rf"(?<!\w){re.escape(option)}(?![\w.])", printed)
    ]
    return " ".join([printed, *hidden])


def describe_callable(function: Callable[..., object]) -> str:
    r"""A function's name, plain arguments and compiled code; for an instance, of its class.

    Example:
        >>> def top(model, data, val_data, k=10):
        ...     return {f"top@{k}": 1.0}
        >>> describe_callable(partial(top, k=5)).split()[:2]
        ['top', 'k=5']
    """
    if isinstance(function, partial):
        given = [f"{k}={v!r}" for k, v in function.keywords.items() if _plain(v)]
        given += [repr(value) for value in function.args if _plain(value)]
        name, *rest = describe_callable(function.func).split(" ")
        return " ".join([name, *given, *rest])
    if isinstance(function, MethodType):
        name, *rest = describe_callable(function.__func__).split(" ")
        return " ".join([name, *_options(function.__self__), *rest])
    if isinstance(function, FunctionType):
        held = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        code = hashlib.sha256(_code(function).encode()).hexdigest()
        return " ".join([function.__qualname__, *(repr(v) for v in held if _plain(v)), code[:12]])
    call = vars(type(function)).get("__call__")
    if isinstance(call, FunctionType):
        return describe_callable(MethodType(call, function))
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 of names, types, shapes and contents of tensors, in their order."""
    found = hashlib.sha256()
    for name, tensor in tensors:
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)};".encode())
        # In parts: of a large tensor on another device, there is never a second one.
        for part in tensor.detach().flatten().split(PART):
            found.update(part.cpu().contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _tensors(data: HeteroData, leave_out: Collection[str]) -> Iterable[tuple[str, Tensor]]:
    """Edges, in their order, and features of a graph by their names."""
    for store, name, value in tensors_of(data):
        if name not in leave_out:
            yield f"{store._key} {name}", value


def _knowledge(data: HeteroData, methods: list[Distillation]) -> Iterable[tuple[str, Tensor]]:
    parts = [m for method in methods for m in method.modules() if isinstance(m, Distillation)]
    needs = {need for part in parts for need in part.needs}
    if any(part.teacher_scores for part in parts):
        needs.add("teacher_x")
    if "teacher_items" in needs:
        needs |= {*PLACES, ROWS}
    others = CARRIED - needs
    for name, value in _tensors(data, others):
        if name.split()[-1] in CARRIED:
            yield name, value


def _options(owner: object) -> list[str]:
    return [f"{name}={value!r}" for name, value in _given(owner) if _plain(value)]


def _functions(owner: object) -> list[str]:
    """Options that are functions, by what they do."""
    kinds = (FunctionType, MethodType, partial)
    given = [(name, value) for name, value in _given(owner) if isinstance(value, kinds)]
    return [f"{name}={describe_callable(value)}" for name, value in given]


def _given(owner: object) -> list[tuple[str, object]]:
    """What is kept under the names of a constructor's arguments."""
    makers = [vars(cls)["__init__"] for cls in type(owner).__mro__[:-1] if "__init__" in vars(cls)]
    names = dict.fromkeys(name for maker in makers for name in signature(maker).parameters)
    held = getattr(owner, "__dict__", {})
    return [(name, held[name]) for name in names if name in held]


def _plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _code(part: object) -> str:
    """What a function or a constant of one is, the same in every process and wherever it stands."""
    if isinstance(part, FunctionType):
        return _code(part.__code__) + str([repr(v) for v in _enclosed(part) if _plain(v)])
    if isinstance(part, CodeType):
        return f"{part.co_code!r} {part.co_names} {[_code(c) for c in part.co_consts]}"
    if isinstance(part, frozenset):
        return str(sorted(map(_code, part)))
    return repr(part)


def _enclosed(function: FunctionType) -> list[object]:
    """Values of a closure, without lists, in which an evaluator may collect something."""
    values: list[object] = []
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # an empty cell
            values.append(cell.cell_contents)
    return [value for value in values if not isinstance(value, list)]
