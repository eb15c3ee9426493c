"""What ``recommend`` does: ranks block by block, and keeps each as a part until all are there."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyg_kd.checks import require_count
from pyg_kd.cli.console import note, warn
from pyg_kd.cli.lists.blocks import AT_ONCE, Block, Source, is_streamed, read_lines, source_of
from pyg_kd.cli.lists.formats import Format, Lists, format_of
from pyg_kd.cli.options.recommend import Listed, Wanted
from pyg_kd.cli.pairs import as_ids, find
from pyg_kd.files import atomic_write, sha256_of
from pyg_kd.json_files import read_json, write_json
from pyg_kd.locks import locked
from pyg_kd.progress import Progress
from pyg_kd.retrieval import TopKIndex, load_student

STATE = "state.json"

#: The options that name files.
FILES = ("users", "history", "exclude", "candidates")


def run_job(wanted: Wanted, listed: Listed) -> None:
    """List, and write."""
    require_count(k=wanted.k, part_size=listed.part_size)
    format_of(listed.out)
    out = None if listed.out == "-" else Path(listed.out).expanduser()
    if out is not None and out.exists() and not listed.overwrite:
        raise ValueError(f"'{out}' is there already: --overwrite replaces it")
    if out is not None:
        refuse_streams(wanted)
    index = load_student(wanted.bundle, verify=listed.verify, backend=listed.backend)
    source, ranking = source_of(wanted, index), Ranking(index, wanted)
    source.check()
    if source.skipped and wanted.unknown == "skip":
        warn(f"{source.skipped:,} of {source.total:,} users are unknown, and skipped")
    kinds = {"text_users": source.text_users, "text_items": index.items.kind == "text"}
    form = format_of(listed.out, **kinds)
    if out is None:
        _stream(ranking, source, form, listed.progress and not is_streamed(wanted.users))
    else:
        _write(ranking, source, form, out, listed)


class Ranking:
    """Lists of blocks of users, as they are wanted."""

    def __init__(self, index: TopKIndex, wanted: Wanted) -> None:
        self.index, self.wanted = index, wanted
        self.k = min(wanted.k, index.num_items)  # the rest would be padding, which nobody writes
        self.options: dict[str, Any] = {"exclude_seen": wanted.exclude_seen}
        for name in ("exclude", "candidates"):
            if (path := getattr(wanted, name)) is not None:
                self.options[name] = self._items(name, path)

    def _items(self, name: str, path: str) -> list[Any]:
        """The known items of a file."""
        lines = list(read_lines(path))
        rows = find(lines, self.index.items)
        if missing := int((rows < 0).sum()):
            warn(f"{missing:,} of {len(lines):,} items in '{path}' ({name}) are unknown")
        known = [line for line, row in zip(lines, rows.tolist(), strict=True) if row >= 0]
        return as_ids(known, self.index.items)

    def lists(self, block: Block, progress: Progress) -> Iterator[Lists]:
        """The lists of a block, a few users at a time."""
        for start in range(0, len(block.users), AT_ONCE):
            users = block.users[start : start + AT_ONCE]
            if block.histories is None:
                unknown: Any = "popular" if self.wanted.unknown == "popular" else "raise"
                found = self.index.search(users, self.k, unknown=unknown, **self.options)
            else:
                histories = block.histories[start : start + AT_ONCE]
                found = self.index.search_history(histories, self.k, **self.options)
            yield Lists(users, *found)
            progress.update(len(users))


def _stream(ranking: Ranking, source: Source, form: Format, progress: bool) -> None:
    """Print lists as they are made."""
    with Progress("listing", source.left, unit="user", shown=progress) as shown:
        for block in source.blocks(AT_ONCE):
            for lists in ranking.lists(block, shown):
                sys.stdout.write(form.text(lists))
            sys.stdout.flush()


def _write(ranking: Ranking, source: Source, form: Format, out: Path, listed: Listed) -> None:
    """Write parts, then make a file of them."""
    folder = out.with_name(f"{out.name}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _begin(folder, request(ranking.wanted, listed), listed.overwrite)
        parts = []
        with Progress("listing", source.left, unit="user", shown=listed.progress) as progress:
            for number, block in enumerate(source.blocks(listed.part_size)):
                parts.append(folder / f"{number:08d}{out.suffix}")
                if parts[-1].exists():
                    progress.update(len(block.users))
                    continue
                with atomic_write(parts[-1]) as temporary:
                    form.write(list(ranking.lists(block, progress)), temporary)
        with atomic_write(out) as temporary:
            form.merge(parts, temporary)
        shutil.rmtree(folder)
    note(f"wrote {out}")


def request(wanted: Wanted, listed: Listed) -> dict[str, Any]:
    """All that decides about the lists: options, and the digests of the files that are read."""
    found = asdict(wanted) | {"part_size": listed.part_size, "backend": listed.backend}
    files = {name: Path(str(found[name])) for name in FILES if found[name] is not None}
    files["bundle"] = Path(wanted.bundle) / "manifest.json"
    for name, path in files.items():
        with path.expanduser().open("rb") as file:
            found[name] = sha256_of(file, sys.maxsize)
    return found


def refuse_streams(wanted: Wanted) -> None:
    """Raise ``ValueError`` for a file that cannot be read once more, to tell requests apart."""
    for name in FILES:
        if is_streamed(getattr(wanted, name)):
            raise ValueError(
                f"{name!r} can come from standard input or a pipe only if lists go to standard "
                "output"
            )


def _begin(folder: Path, wanted: dict[str, Any], overwrite: bool) -> None:
    """Make room for the parts, or leave those of the same request."""
    state = folder / STATE
    if state.exists() and read_json(state) == wanted:
        done = sum(path.name != STATE for path in folder.iterdir() if path.is_file()) - 1
        note(f"continuing after {max(done, 0)} parts in {folder}")
        return
    remains = [path for path in folder.iterdir() if path.name != ".lock"]
    if remains and not overwrite:
        raise ValueError(f"'{folder}' holds parts of another request: --overwrite removes them")
    for path in remains:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_json(state, wanted)
