"""What ``export`` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pyg_kd.cli.console import note
from pyg_kd.cli.engine.sources import index_of
from pyg_kd.cli.options.export import Details, Exported
from pyg_kd.retrieval import TopKIndex, save_index
from pyg_kd.retrieval.export import (
    pull_bundle,
    push_bundle,
    write_faiss,
    write_onnx,
    write_parquet,
)

#: What stands before the name of a repository.
HUB = "hub:"

ENDINGS = {".onnx": "onnx", ".faiss": "faiss", ".index": "faiss", ".parquet": "parquet"}

Write = Callable[[TopKIndex, Path, Details], object]

WRITERS: dict[str, Write] = {
    "parquet": lambda index, path, _: write_parquet(index, path),
    "onnx": lambda index, path, details: write_onnx(
        index, path, by=details.by, exclude_seen=details.exclude_seen
    ),
    "faiss": lambda index, path, details: write_faiss(
        index, path, factory=details.factory, ids=details.ids
    ),
    "bundle": lambda index, path, _: save_index(index, path),
}


def run_export(exported: Exported, details: Details) -> None:
    """Write, and say what was written."""
    form = form_of(exported)
    if form == "hub":
        return push(exported, details)
    out = Path(exported.out).expanduser()
    if not exported.overwrite and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise ValueError(f"'{out}' is there already: --overwrite replaces it")
    if exported.source.startswith(HUB):
        return pull(exported, out, form, details)
    index = index_of(exported.source, details.model, details.dtype)
    WRITERS[form](index, out, details)
    note(f"wrote {out}")


def form_of(exported: Exported) -> str:
    r"""The form that is asked for.

    Raises:
        ValueError: If nothing tells it.
    """
    if exported.format != "auto":
        return exported.format
    if exported.out.startswith(HUB):
        return "hub"
    if exported.source.startswith(HUB):
        return "bundle"
    ending = Path(exported.out).suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(
            f"'out' must end in {', '.join(ENDINGS)}, or --format be given (got {exported.out!r})"
        )
    return ENDINGS[ending]


def push(exported: Exported, details: Details) -> None:
    """Upload a bundle."""
    source = Path(exported.source).expanduser()
    bundle = source if (source / "manifest.json").exists() else source / "bundle"
    name = exported.out.removeprefix(HUB)
    sha256 = push_bundle(
        bundle, name, revision=details.revision, private=details.private, message=details.message
    )
    note(f"pushed {bundle} to {name}")
    print(sha256, flush=True)


def pull(exported: Exported, out: Path, form: str, details: Details) -> None:
    """Download a bundle."""
    if form != "bundle":
        raise ValueError(f"a repository is pulled as a bundle (got format {form!r})")
    fields = pull_bundle(exported.source.removeprefix(HUB), out, revision=details.revision)
    note(f"wrote {out}")
    print(fields["sha256"], flush=True)
