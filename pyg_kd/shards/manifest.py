r"""The manifest of a folder of shards: what it holds, and the digest of every part.

``manifest.json`` is written last, so a folder that has one is complete:

===========  ==================================================================================
``format``   ``"pyg_kd.shards.1"``
``request``  An object: ``kind``, what the parts are, and all that their bytes depend on.
``parts``    A list: ``name``, ``start`` and ``stop``, ``bytes`` and ``sha256`` of each part.
``sha256``   SHA-256 of the manifest without this field, as JSON with sorted keys and no spaces.
===========  ==================================================================================
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pyg_kd.files import atomic_write
from pyg_kd.shards.parts import NAME, Content, Part

FORMAT = "pyg_kd.shards.1"
MANIFEST = "manifest.json"


class ShardError(ValueError):
    """Shards that are missing, damaged, or of something else."""


class Digest(NamedTuple):
    """The length of a file, and its SHA-256."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, content: Content) -> Digest:
        """Of its content.

        Example:
            >>> Digest.of(b"abc").sha256[:8]
            'ba7816bf'
        """
        return cls(memoryview(content).nbytes, hashlib.sha256(content).hexdigest())


class Manifest:
    """A complete folder of shards."""

    def __init__(self, folder: Path, request: dict[str, Any], digests: dict[Part, Digest]) -> None:
        self.folder, self.request, self.digests = folder, request, digests

    def parts(self, kind: str) -> list[Part]:
        """The parts of a kind, in order."""
        return [part for part in self.digests if part.kind == kind]

    def read(self, part: Part) -> bytes:
        r"""The content of a part.

        Raises:
            ShardError: If a single bit of it is wrong.
        """
        content = _content(self.folder / part.name)
        if Digest.of(content) != self.digests[part]:
            raise ShardError(
                f"'{self.folder / part.name}' is damaged: its content does not match its digest"
            )
        return content

    def each(self, kind: str) -> Iterator[tuple[Part, bytes]]:
        """The parts of a kind and their contents, one after the other."""
        for part in self.parts(kind):
            yield part, self.read(part)

    def check_sizes(self) -> None:
        r"""Look for all parts, without reading them.

        Raises:
            ShardError: If one is missing, or has another length.
        """
        for part, digest in self.digests.items():
            path = self.folder / part.name
            if not path.is_file():
                raise ShardError(f"'{path}' is missing: the shards are not complete")
            if path.stat().st_size != digest.bytes:
                raise ShardError(
                    f"'{path}' is damaged: it has {path.stat().st_size} bytes, its manifest says "
                    f"{digest.bytes}"
                )

    def write(self) -> None:
        """Write the manifest, atomically."""
        told: dict[str, Any] = {"format": FORMAT, "request": self.request}
        told["parts"] = [part._asdict() | self.digests[part]._asdict() for part in self.digests]
        told["sha256"] = _digest(told)
        with atomic_write(self.folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")


def open_shards(folder: str | os.PathLike[str], kind: str) -> Manifest:
    r"""The shards in a folder, all there by name and length.

    Args:
        folder: The folder.
        kind: What they have to be.

    Raises:
        TypeError: If ``folder`` is not a path.
        FileNotFoundError: If there is no such folder.
        ShardError: If shards are not complete or damaged, or are of another kind.
    """
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"'folder' must be a path (got {type(folder).__name__})")
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"no folder at '{path}'")
    if not (path / MANIFEST).is_file():
        raise ShardError(
            f"'{path}' holds no complete shards: it has no {MANIFEST}, which is written last"
        )
    found = read_manifest(path)
    if found.request["kind"] != kind:
        raise ShardError(f"'{path}' must hold {kind} (got {found.request['kind']})")
    found.check_sizes()
    return found


def read_manifest(folder: Path) -> Manifest:
    r"""The manifest in a folder.

    Raises:
        ShardError: If it is damaged.
    """
    path = folder / MANIFEST
    try:
        told = json.loads(_content(path).decode())
        if told["format"] != FORMAT:
            raise ShardError(f"'{path}' must have the format {FORMAT!r} (got {told['format']!r})")
        if told.pop("sha256") != _digest(told):
            raise ShardError(f"'{path}' is damaged: its content does not match its digest")
        rows = [(Part(r["name"], r["start"], r["stop"]), Digest(r["bytes"], r["sha256"]))
                for r in told["parts"]]  # fmt: skip
        _check_names(part.name for part, _ in rows)
        return Manifest(folder, {"kind": told["request"]["kind"]} | told["request"], dict(rows))
    except ShardError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ShardError(f"'{path}' is damaged ({type(error).__name__}: {error})") from error


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if NAME.fullmatch(name) is None:  # no path leads out of the folder
            raise ValueError(f"{name!r} names no part")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ShardError(f"'{path}' is missing: the shards are not complete") from error


def _digest(told: dict[str, Any]) -> str:
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
