"""Options straight from signatures: the parser of a command, by jsonargparse."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter, getdoc, signature
from typing import Any, cast, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter

from pyg_kd.cli.console import NAME
from pyg_kd.cli.spelling import explained, normalized, spelt


class Help(DefaultHelpFormatter):
    """Options spelt as they are typed: with dashes, and switches without a value."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.dest == "help":
            return super()._format_action_invocation(action)
        name = spelt(action.dest)
        if getattr(action, "switch", False):
            return f"{name}, --no-{name[2:]}"
        if action.dest == "print_config":
            return name
        value = action.dest.upper()
        if action.choices is not None:
            value = "{" + ",".join(map(str, action.choices)) + "}"
        return f"{name} {value}"


def parse(command: Callable[..., Any], words: Sequence[str]) -> dict[str, Any] | None:
    r"""Read the options of a command from words and from the YAML files that they name.

    A parameter whose type is a dataclass stands for the options that are its fields.

    Args:
        command: The function; its docstring and those of the dataclasses are the help.
        words: What follows the command.

    Returns:
        What to call the command with, or :obj:`None` if help or the configuration was printed.

    Raises:
        ValueError: If an option is unknown, missing or of another type.
    """
    parser, types = make_parser(command), option_types(command)
    hint = f" (see '{parser.prog} --help')"
    try:
        found = parser.parse_args(normalized(words, types))
    except (ArgumentError, argparse.ArgumentError, argparse.ArgumentTypeError) as error:
        raise ValueError(explained(error, types) + hint) from error
    except SystemExit as stop:
        if stop.code:
            raise ValueError(f"the options are wrong{hint}") from stop
        return None
    return arguments(command, found.as_dict())


def arguments(command: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """What to call a command with, from the values of its options."""
    made: dict[str, Any] = {}
    for name, kind in parameters(command).items():
        if is_dataclass(kind):
            values = {f.name: options[f.name] for f in fields(kind)}
            made[name] = cast(Callable[..., Any], kind)(**values)
        else:
            made[name] = options[name]
    return made


def make_parser(command: Callable[..., Any]) -> ArgumentParser:
    """The parser of a command, named after the function."""
    parser = ArgumentParser(
        prog=f"{NAME} {command.__name__}",
        description=(getdoc(command) or "").partition("\n\nArgs:")[0],
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=Help,
    )
    parser.add_argument("--config", action="config", help="Options from a YAML file.")
    groups = {key: kind for key, kind in parameters(command).items() if is_dataclass(kind)}
    for kind in groups.values():
        positional = any(f.metadata.get("positional") for f in fields(kind))
        parser.add_class_arguments(kind, None, as_positional=positional)
    parser.add_function_arguments(command, None, as_positional=True, skip={*groups})
    types = option_types(command)
    for action in parser._actions:
        vars(action)["switch"] = types.get(action.dest) is bool
    needed = _without_default(command, groups.values())
    parser.usage = " ".join([parser.prog, "[options]", *_shown(needed, parser)])
    return parser


def parameters(command: Callable[..., Any]) -> dict[str, Any]:
    """The type of each parameter of a command."""
    hints = get_type_hints(command)
    return {name: hints[name] for name in signature(command).parameters}


def option_types(command: Callable[..., Any]) -> dict[str, Any]:
    """The type of each option of a command."""
    found: dict[str, Any] = {}
    for name, kind in parameters(command).items():
        found |= get_type_hints(kind) if is_dataclass(kind) else {name: kind}
    return found


def _without_default(command: Callable[..., Any], groups: Iterable[Any]) -> list[str]:
    every = [f for kind in groups for f in fields(kind)]
    own = [p.name for p in signature(command).parameters.values() if p.default is Parameter.empty]
    simple = [name for name in own if not is_dataclass(parameters(command)[name])]
    return simple + [f.name for f in every if f.default is f.default_factory is MISSING]


def _shown(needed: list[str], parser: ArgumentParser) -> list[str]:
    """What the usage says of the options that have to be given."""
    places = [action.dest for action in parser._actions if not action.option_strings]
    options = [f"{spelt(name)} {name.upper()}" for name in needed if name not in places]
    return options + [name.upper() for name in places]
