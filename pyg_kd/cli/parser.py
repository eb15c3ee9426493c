"""Options straight from signatures: the parser of a command, by jsonargparse."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from inspect import getdoc, signature
from typing import Any, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter

from pyg_kd.cli.console import NAME
from pyg_kd.cli.spelling import explained, normalized, spelt

Command = Callable[..., Any]


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
        value = str(action.metavar or "")
        return f"{name} {value if value.startswith('{') else action.dest.upper()}"

    def _get_help_string(self, action: argparse.Action) -> str:
        text = super()._get_help_string(action)
        for unsaid in (", type: %(type)s", "type: %(type)s, ", " (type: %(type)s)"):
            text = text.replace(unsaid, "")
        return text.replace(" (default: %(default)s)", "") if action.default is None else text


def parse(command: Command, words: Sequence[str]) -> dict[str, Any] | None:
    r"""Read the options of a command from words and from the YAML files that they name.

    Args:
        command: A function whose parameters are dataclasses, the groups of its options. Its
            docstring and theirs are the help. Importing its module is all that help costs.
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
        raise ValueError(explained(error, types, _places(parser)) + hint) from error
    except SystemExit as stop:
        if stop.code:
            raise ValueError(f"the options are wrong{hint}") from stop
        return None
    return arguments(command, found.as_dict())


def arguments(command: Command, options: dict[str, Any]) -> dict[str, Any]:
    r"""What to call a command with, from the values of its options.

    Options that are not told have their defaults, as those that an older version did not have.

    Raises:
        KeyError: If an option without a default is missing.
    """
    found = {}
    for name, group in groups(command).items():
        missing = [f for f in fields(group) if f.name not in options]
        for field in missing:
            if field.default is field.default_factory is MISSING:
                raise KeyError(field.name)
        told = {f.name: options[f.name] for f in fields(group) if f not in missing}
        found[name] = group(**told)
    return found


def make_parser(command: Command) -> ArgumentParser:
    """The parser of a command, named after the function."""
    parser = ArgumentParser(
        prog=f"{NAME} {command.__name__}",
        description=getdoc(command),
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=Help,
    )
    parser.add_argument("--config", action="config", help="Options from a YAML file.")
    for group in groups(command).values():
        positional = any(f.metadata.get("positional") for f in fields(group))
        parser.add_class_arguments(group, None, as_positional=positional)
    types = option_types(command)
    for action in parser._actions:
        vars(action)["switch"] = types.get(action.dest) is bool
    parser.usage = " ".join([parser.prog, "[options]", *_needed(command, parser)])
    return parser


def groups(command: Command) -> dict[str, Any]:
    """The dataclass of each parameter of a command."""
    hints = get_type_hints(command)
    return {name: hints[name] for name in signature(command).parameters}


def option_types(command: Command) -> dict[str, Any]:
    """The type of each option of a command."""
    return {
        name: kind
        for group in groups(command).values()
        for name, kind in get_type_hints(group).items()
    }


def _needed(command: Command, parser: ArgumentParser) -> list[str]:
    """What the usage says of the options that have to be given."""
    every = [f for group in groups(command).values() for f in fields(group)]
    needed = [f.name for f in every if f.default is f.default_factory is MISSING]
    places = _places(parser)
    options = [f"{spelt(name)} {name.upper()}" for name in needed if name not in places]
    return options + [name.upper() for name in places]


def _places(parser: ArgumentParser) -> list[str]:
    """What is given by its place, without a name."""
    return [action.dest for action in parser._actions if not action.option_strings]
