"""Methods and models of one's own, named as ``module:Class``."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pyg_kd.study.binding import nearest

#: Packages whose versions are in the record of a run.
PACKAGES = {"pyg_kd", "torch", "torch_geometric", *sys.stdlib_module_names}

#: What names a class in a configuration.
KEYS = ("method", "model", "student")


def is_own(name: object) -> bool:
    """Whether a name is that of a class outside of the package.

    Example:
        >>> is_own("mymethods:GatedHint"), is_own("SoftLabel")
        (True, False)
    """
    return isinstance(name, str) and ":" in name


def own_names(given: object) -> set[str]:
    """The names of own classes in a configuration, wherever they stand.

    Example:
        >>> own_names({"methods": {"mine": {"method": "mymethods:GatedHint"}}})
        {'mymethods:GatedHint'}
    """
    found: set[str] = set()
    if isinstance(given, Mapping):
        found |= {value for key, value in given.items() if key in KEYS and is_own(value)}
    if isinstance(given, (Mapping, list)):
        for value in given.values() if isinstance(given, Mapping) else given:
            found |= own_names(value)
    return found


def look_in(folders: Iterable[Path], names: Collection[str]) -> None:
    r"""Let modules of some folders be imported, here and in the processes of runs.

    The folders come last in ``sys.path``, which a new process takes over.

    Args:
        folders: The folders, the first one first.
        names: Names like ``module:Class``; without any, nothing is done.

    Raises:
        ValueError: If a module of a folder is hidden by another one of its name.
    """
    folders = [folder.resolve() for folder in folders]
    sys.path += [str(f) for f in dict.fromkeys(folders) if names and str(f) not in sys.path]
    for module in sorted({name.partition(":")[0] for name in names}):
        path = Path(*module.split("."))
        files = [
            f / end for f in folders for end in (path / "__init__.py", path.with_suffix(".py"))
        ]
        mine = next((file for file in files if file.is_file()), None)
        found = None if mine is None else _origin(module)
        if mine is not None and found is not None and not mine.samefile(found):
            raise ValueError(f"{module!r} is '{found}', which hides '{mine}': rename yours")


def own_class(name: str, base: type, place: str) -> Any:
    r"""The class of a name like ``module:Class``.

    Args:
        name: The name.
        base: What it must derive from.
        place: Where the name stands, for messages.

    Raises:
        ValueError: If the module cannot be imported, or has no such class.
    """
    module_name, _, inner = name.partition(":")
    if not all(map(str.isidentifier, (*module_name.split("."), *inner.split(".")))):
        raise ValueError(f"{place}: {name!r} must look like 'module:Class'")
    try:
        found: Any = import_module(module_name)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name
        if missing and f"{module_name}.".startswith(f"{missing}."):
            raise ValueError(
                f"{place}: there is no module {missing!r}, neither where Python looks nor "
                "beside the configuration or in the current folder"
            ) from error
        raise ValueError(
            f"{place}: {module_name!r} cannot be imported ({type(error).__name__}: {error})"
        ) from error
    module = found
    for part in inner.split("."):
        if not hasattr(found, part):
            known = [n for n, value in vars(module).items() if _is_of(value, base)]
            raise ValueError(
                f"{place}: {_named(module)} has no {inner!r}"
                f"{nearest(inner, known) if known else f', nor any {base.__name__}'}"
            )
        found = getattr(found, part)
    if not _is_of(found, base):
        raise ValueError(f"{place}: {name!r} must be a class derived from {base.__name__}")
    return found


def sources_of(names: Iterable[str], base: type = object) -> dict[str, str]:
    r"""SHA-256 of the source files of own classes, and of the own classes that these derive from.

    Args:
        names: Names like ``module:Class``.
        base: What they must derive from.

    Raises:
        ValueError: If a file has changed since it was imported, or there is none.
    """
    found = {}
    for name in names:
        kind = own_class(name, base, "sources")
        found[name] = _digest(kind)
        if found[name] != _first_digest(kind):
            files = ", ".join(f"'{file}'" for file in source_files(kind))
            raise ValueError(
                f"{files} changed after {name!r} was imported: give the command again, "
                "or start Python again"
            )
    return found


def source_files(kind: type) -> list[Path]:
    r"""The files of a class and of what it derives from, but for those of the usual packages.

    Raises:
        ValueError: If a class is of no file, such as one of a notebook.
    """
    modules = dict.fromkeys(one.__module__ for one in kind.__mro__)
    own = [name for name in modules if name.partition(".")[0] not in PACKAGES]
    files = [getattr(sys.modules[name], "__file__", None) for name in own]
    if None in files:
        raise ValueError(f"{kind.__name__} must be a class of a file, which its runs can import")
    return [Path(str(file)) for file in files]


def _digest(kind: type) -> str:
    whole = hashlib.sha256()
    for file in source_files(kind):
        whole.update(file.read_bytes())
    return whole.hexdigest()


@cache
def _first_digest(kind: type) -> str:
    """What the files of a class held when they were first looked at."""
    return _digest(kind)


def _is_of(value: object, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base) and value is not base


def _named(module: Any) -> str:
    file = getattr(module, "__file__", None)
    return f"{module.__name__!r}" + (f" ('{file}')" if file else "")


def _origin(module: str) -> str | None:
    """The file that a module is imported from; ``None`` if there is none."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return None
    found = None if spec is None else spec.origin
    return found if found is not None and Path(found).is_file() else None
