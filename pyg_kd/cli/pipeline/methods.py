"""Methods by name, with weights and options: from words, from YAML, and made."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from inspect import signature
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

from pyg_kd import distill
from pyg_kd.distill import Distillation

#: Methods that learn from something else than one teacher.
ELSEWHERE = {
    "HetComp": "it learns from the trajectories of several teachers",
    "ConsensusLearning": "the heads of a MultiBranch teach each other",
}

NAMES = tuple(sorted({*distill.__all__} - {"Distillation", *ELSEWHERE}))


class Method(NamedTuple):
    """A method that is asked for."""

    name: str
    weight: float
    options: dict[str, Any]

    def make(self) -> Distillation:
        r"""Make the method.

        Raises:
            ValueError: If it has no such option, or refuses its value.
        """
        kind = method_class(self.name)
        known = signature(kind).parameters
        for option in self.options:
            if option not in known:
                raise ValueError(f"{self.name} has no option {option!r}: it has {', '.join(known)}")
        made: Distillation = kind(**self.options)
        return made


def parse_methods(given: str | Mapping[str, Any] | list[Any]) -> list[Method]:
    r"""What is asked for.

    Args:
        given: Text like ``"SoftLabel(own_weight=0.3)=1.0,HintRegression=1e-2"``; a mapping from
            names to weights, or to mappings with a ``weight`` and options; or a list of these. A
            class outside of the package is named as ``module:Class``.

    Raises:
        ValueError: If there is no such method, or no weight.

    Example:
        >>> parse_methods("SoftLabel(own_weight=0.3)=1.0")
        [Method(name='SoftLabel', weight=1.0, options={'own_weight': 0.3})]
        >>> parse_methods({"SoftLabel": {"weight": 1, "own_weight": 0.3}})
        [Method(name='SoftLabel', weight=1.0, options={'own_weight': 0.3})]
    """
    if isinstance(given, str):
        found = [_from_text(text) for text in _split(given)]
    elif isinstance(given, Mapping):
        found = [_from_entry(name, value) for name, value in given.items()]
    else:
        found = [method for entry in given for method in parse_methods(entry)]
    if not found:
        raise ValueError(f"'methods' must name a method (got {given!r})")
    return found


def method_class(name: str) -> type[Distillation]:
    r"""A method's class by its name; ``module:Class`` is looked for in the current folder, too.

    Raises:
        ValueError: If there is none.
    """
    found: type[Distillation]
    if ":" in name:
        from pyg_kd.study.own_classes import look_in, own_class

        look_in([Path.cwd()], [name])
        found = own_class(name, Distillation, "methods")
        return found
    if name not in NAMES:
        module, _, last = name.rpartition(".")
        near = [f"{module}:{last}"] if module else get_close_matches(name, NAMES, 1)
        hint = f", did you mean {near[0]}?" if near else f": one of {', '.join(NAMES)}"
        raise ValueError(f"there is no method {name!r}{hint}")
    found = getattr(distill, name)
    return found


def own_files(methods: Iterable[Method]) -> list[Path]:
    """The source files of methods outside of the package."""
    own = [method_class(method.name) for method in methods if ":" in method.name]
    if not own:
        return []
    from pyg_kd.study.own_classes import source_files

    return list(dict.fromkeys(file for kind in own for file in source_files(kind)))


def as_config(methods: list[Method]) -> Any:
    """Methods as a configuration holds them, which :func:`parse_methods` reads."""
    entries = [{m.name: {"weight": m.weight, **m.options}} for m in methods]
    if len({m.name for m in methods}) < len(methods):
        return entries
    return {name: value for entry in entries for name, value in entry.items()}


def _split(text: str) -> list[str]:
    """The parts between commas that are not in brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _from_text(text: str) -> Method:
    call, _, weight = text.rpartition("=") if _ends_with_weight(text) else (text, "", None)
    name, _, options = call.partition("(")
    return _method(name.strip(), weight, _options(f"({options}", text) if options else {})


def _ends_with_weight(text: str) -> bool:
    return "=" in text[text.rfind(")") + 1 :]


def _options(call: str, text: str) -> dict[str, Any]:
    """The options between the brackets of a call, all of them literals."""
    try:
        tree = ast.parse(f"f{call}", mode="eval").body
        if not isinstance(tree, ast.Call) or tree.args:
            raise ValueError("options are given by name")
        return {str(word.arg): ast.literal_eval(word.value) for word in tree.keywords}
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ValueError(
            f"'methods' must look like 'SoftLabel(own_weight=0.3)=1.0' (got {text!r})"
        ) from error


def _from_entry(name: str, value: Any) -> Method:
    options = dict(value) if isinstance(value, Mapping) else {"weight": value}
    return _method(name, options.pop("weight", None), options)


def _method(name: str, weight: Any, options: dict[str, Any]) -> Method:
    if name in ELSEWHERE:
        raise ValueError(f"{name} is used from Python: {ELSEWHERE[name]}")
    kind = method_class(name)
    if weight is None:
        raise ValueError(f"'methods' must give {name} a weight, as in '{name}=1.0'")
    known = signature(kind).parameters
    numbers = {key for key, option in known.items() if option.annotation in ("float", float)}
    options = {k: _number(k, value) if k in numbers else value for k, value in options.items()}
    return Method(name, _number("weight", weight), options)


def _number(name: str, value: Any) -> float:
    """A number; YAML takes 1e-4 for text."""
    try:
        if isinstance(value, bool) or not isinstance(value, (Real, str)):
            raise ValueError
        return float(value)
    except ValueError as error:
        raise ValueError(f"{name!r} must be a number (got {value!r})") from error
