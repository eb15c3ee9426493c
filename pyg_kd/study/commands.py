"""The commands that run a study, and a run of it, again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

#: Options that tell where things are on one machine.
PLACES = ("--out", "--roots.")


def default_out(name: str) -> Path:
    """The folder of a study that is told none."""
    return Path("out") / name


def study_command(
    config: object,
    name: str,
    out: str | os.PathLike[str],
    roots: Mapping[str, str] | None = None,
) -> str:
    r"""How a study is run from the current folder; with ``--run KEY``, a run of it.

    Args:
        config: Its file, or something else for a study without one.
        name: Its name.
        out: Its folder.
        roots: Folders of the files of data sets.

    Example:
        >>> study_command("small.yaml", "small", "out/small")
        'pyg-kd study small.yaml'
        >>> study_command("small.yaml", "small", "my out", {"movielens": "data"})
        "pyg-kd study small.yaml --out 'my out' --roots.movielens data"
    """
    words = ["pyg-kd", "study"]
    words.append(_seen(config) if isinstance(config, (str, os.PathLike)) else "CONFIG.yaml")
    if Path(out).expanduser().resolve() != default_out(name).resolve():
        words += ["--out", _seen(out)]
    for dataset, folder in (roots or {}).items():
        words += [f"--roots.{dataset}", _seen(folder)]
    return shlex.join(words)


def portable(command: str) -> str:
    r"""A command without the places of a machine, for results that are read on another.

    Example:
        >>> portable("pyg-kd study /home/eve/small.yaml --out /tmp/small --run 0f")
        'pyg-kd study small.yaml --run 0f'
    """
    words, found = iter(shlex.split(command)), []
    for word in words:
        if word.startswith(PLACES):
            next(words, None)
        else:
            found.append(Path(word).name if Path(word).is_absolute() else word)
    return shlex.join(found)


def _seen(path: str | os.PathLike[str]) -> str:
    """A path as seen from here, where it lies below; otherwise as a whole."""
    whole = Path(path).expanduser().resolve()
    return str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole)
