"""A folder of shards while they are made."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyg_kd.files import atomic_write
from pyg_kd.json_files import read_json, write_json
from pyg_kd.shards.manifest import MANIFEST, Digest, Manifest, ShardError, read_manifest
from pyg_kd.shards.parts import NAME, Job, Part, Report

#: What is only there until the shards are complete: the request, a record of every part that is
#: done, and files that later stages read.
WORK = "work"

REQUEST = "request.json"


class Folder:
    """Where the parts of a job go.

    A part counts as done when its record is there, which is written after its files. Whoever makes
    a part twice writes the same bytes twice.
    """

    def __init__(self, path: Path, job: Job) -> None:
        self.path, self.job = path, job
        self.work = path / WORK
        self.parts = [part for stage in job.stages for part in stage]

    def begin(self, overwrite: bool) -> bool:
        r"""Make room, or keep what is there of the same request; whether that is complete.

        Raises:
            ShardError: If the folder holds shards of another request, and ``overwrite`` is false.
        """
        if self.is_begun():
            return self.is_complete() and self._intact()
        told = self._told()
        foreign = sorted(path.name for path in self._remains())
        if foreign and not overwrite:
            raise ShardError(
                f"'{self.path}' holds {self._of_another(told)} ({foreign[0]!r} for one): choose "
                "another folder, or overwrite it"
            )
        self.clear()
        self.work.mkdir(parents=True, exist_ok=True)
        write_json(self.work / REQUEST, self.job.request)
        return False

    def _intact(self) -> bool:
        """Whether complete shards are what was written; if not, they are no longer complete."""
        found, whole = read_manifest(self.path), []
        for part in self.parts:
            with suppress(ShardError):
                found.read(part)
                whole.append(part)
        if len(whole) == len(self.parts):
            return True
        # What parts leave for others is gone, so that others may need all of them again.
        kept = whole if self.job.independent else []
        self.work.mkdir(exist_ok=True)
        write_json(self.work / REQUEST, self.job.request)
        for part in kept:
            files = {part.name: found.digests[part]._asdict()}
            write_json(self._record(part), {"files": files})
        (self.path / MANIFEST).unlink()
        return False

    def is_begun(self) -> bool:
        """Whether what is there, if only in part, is of the same request."""
        return self._told() == self.job.request

    def is_complete(self) -> bool:
        """Whether it has a manifest."""
        return (self.path / MANIFEST).is_file()

    def _told(self) -> dict[str, Any] | None:
        """The request of what is there, if that can be told."""
        try:
            if (self.path / MANIFEST).is_file():
                return read_manifest(self.path).request
            if (self.work / REQUEST).is_file():
                return read_json(self.work / REQUEST)
        except ValueError:
            pass
        return None

    def _of_another(self, told: dict[str, Any] | None) -> str:
        """What tells it from the request, in words."""
        if told is None:
            return "something else"
        for name, wanted in self.job.request.items():
            if told.get(name) != wanted:
                found, wanted = (f"{value!r:.40}" for value in (told.get(name), wanted))
                return f"parts of another request, with {name}={found} in place of {wanted}"
        return "parts of another request"

    def _remains(self) -> list[Path]:
        if not self.path.is_dir():
            return []
        own = (MANIFEST, WORK)
        return [p for p in self.path.iterdir() if p.name in own or NAME.fullmatch(p.name)]

    def clear(self) -> None:
        """Remove shards and work, the manifest first."""
        (self.path / MANIFEST).unlink(missing_ok=True)
        for path in self._remains():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def make(self, part: Part, report: Report) -> None:
        """Make a part: its files, then its record."""
        files = {}
        for name, content in self.job.make(part, self.path, report).items():
            with atomic_write(self.path / name) as temporary:
                temporary.write_bytes(content)
            files[name] = Digest.of(content)._asdict()
        write_json(self._record(part), {"files": files})

    def done(self, part: Part, verify: bool = False) -> bool:
        """Whether a part is there; with ``verify``, whether it is what was written."""
        try:
            for name, told in self._files(part).items():
                path = self.path / name
                if path.stat().st_size != told.bytes:
                    return False
                if verify and Digest.of(path.read_bytes()) != told:
                    return False
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return True

    def finish(self) -> None:
        """Write the manifest, and remove what was only needed on the way to it."""
        digests = {part: self._files(part)[part.name] for part in self.parts}
        Manifest(self.path, self.job.request, digests).write()
        self.tidy()

    def tidy(self) -> None:
        """Remove the work of complete shards."""
        shutil.rmtree(self.work, ignore_errors=True)

    def _record(self, part: Part) -> Path:
        return self.work / f"{part.name}.json"

    def _files(self, part: Part) -> dict[str, Digest]:
        found = read_json(self._record(part))["files"]
        return {name: Digest(told["bytes"], told["sha256"]) for name, told in found.items()}
