"""Optional packages, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def need(module: str, extra: str, what: str) -> Any:
    r"""Import a module of an optional package.

    Args:
        module: Its name.
        extra: The extra that installs it.
        what: What needs it.

    Raises:
        ImportError: If it is not installed, with the command that installs it.

    Example:
        >>> need("no_such_package", "onnx", "write_onnx")
        Traceback (most recent call last):
        ImportError: write_onnx needs no_such_package: pip install 'pyg_kd[onnx]'
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{what} needs {package}: pip install 'pyg_kd[{extra}]'", name=package
        ) from error
