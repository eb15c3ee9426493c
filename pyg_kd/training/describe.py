"""What a module is, as text by which one run is told from another."""

from __future__ import annotations

from inspect import signature

from torch import nn


def describe(module: nn.Module) -> str:
    r"""What a module prints, and the options of its parts that they do not print.

    An option is a plain value that is kept under the name of a constructor's argument, as in
    scikit-learn: classes of a user's own are told apart, whatever they print.

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
        for option in _options(part)
        if option not in printed
    ]
    return " ".join([printed, *hidden])


def _options(module: nn.Module) -> list[str]:
    makers = [vars(cls)["__init__"] for cls in type(module).__mro__ if "__init__" in vars(cls)]
    names = dict.fromkeys(name for maker in makers for name in signature(maker).parameters)
    held = vars(module)
    return [f"{name}={held[name]!r}" for name in names if name in held and _plain(held[name])]


def _plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
