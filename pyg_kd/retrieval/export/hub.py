"""Bundles on the Hugging Face Hub, or in a folder that stands for it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pyg_kd.retrieval.bundle.manifest import FILE, MANIFEST, PARTS, BundleError
from pyg_kd.retrieval.bundle.reader import read_manifest
from pyg_kd.retrieval.bundle.writer import copy_bundle
from pyg_kd.retrieval.extras import need

#: A repository of the hub.
REPO = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)

#: The tables of a bundle; a repository may hold other files, which are left alone.
TABLES = [f"{part}-{'?' * 16}.safetensors" for part in PARTS]


def push_bundle(
    path: str | os.PathLike[str],
    repo_id: str | os.PathLike[str],
    *,
    revision: str | None = None,
    private: bool | None = None,
    message: str | None = None,
) -> str:
    r"""Upload a bundle in one commit, in which files of the bundle before it are removed.

    Other files of the repository stay. What is uploaded is a copy whose digests have been verified.
    The login of ``huggingface_hub`` is used.

    Args:
        path: The bundle.
        repo_id: ``"owner/name"``, which is made if it isn't there. A :class:`~pathlib.Path`, or a
            string that begins with ``/``, ``.`` or ``~``, is a folder: the bundle is copied.
        revision: The branch, which is made if it isn't there.
        private: Whether a new repository is private.
        message: The message of the commit.

    Returns:
        The SHA-256 of the manifest, which :func:`pull_bundle` can ask for.

    Raises:
        BundleError: If the bundle is damaged.
        ImportError: If ``huggingface_hub`` is not installed.
        ValueError: If ``repo_id`` is neither a name nor a folder.
    """
    folder = _folder(repo_id)
    if folder is not None:
        return str(copy_bundle(path, folder)["sha256"])
    hub = need("huggingface_hub", "hub", "push_bundle")
    api = hub.HfApi()
    with TemporaryDirectory() as temporary:
        copied = Path(temporary, "bundle")
        fields = copy_bundle(path, copied)
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        new = sorted(file.name for file in copied.iterdir())
        old = [n for n in api.list_repo_files(repo_id, revision=revision) if FILE.fullmatch(n)]
        # Not upload_folder, which may spread a folder over several commits.
        api.create_commit(
            repo_id,
            [
                *(hub.CommitOperationAdd(name, str(copied / name)) for name in new),
                *(hub.CommitOperationDelete(name) for name in old if name not in new),
            ],
            commit_message=message or f"Bundle {fields['name']}",
            revision=revision,
        )
    return str(fields["sha256"])


def pull_bundle(
    repo_id: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    sha256: str | None = None,
) -> dict[str, Any]:
    r"""Download a bundle, verify every digest, and only then put it in place.

    Args:
        repo_id: As in :func:`push_bundle`.
        path: The folder, which is made, is empty, or holds a bundle, which is replaced at once.
        revision: A branch, a tag or a commit.
        sha256: The manifest that is wanted, as :func:`push_bundle` returned it: anything else is
            refused.

    Returns:
        The manifest.

    Raises:
        BundleError: If what was downloaded is damaged, no bundle, or another one than wanted. A
            bundle at ``path`` stays as it was.
        ImportError: If ``huggingface_hub`` is not installed.
        ValueError: If ``repo_id`` is neither a name nor a folder.

    Example:
        >>> from pyg_kd.retrieval import TopKIndex, load_student, save_index
        >>> import numpy as np
        >>> with TemporaryDirectory() as folder:
        ...     manifest = save_index(TopKIndex(np.eye(2), np.eye(2)), f"{folder}/made")
        ...     sha256 = push_bundle(f"{folder}/made", f"{folder}/store")
        ...     pulled = pull_bundle(f"{folder}/store", f"{folder}/served", sha256=sha256)
        ...     load_student(f"{folder}/served").search([1], k=1)[0]
        array([[1]])
    """
    folder = _folder(repo_id)
    if folder is not None:
        return _install(folder, path, sha256)
    api = need("huggingface_hub", "hub", "pull_bundle").HfApi()
    with TemporaryDirectory() as temporary:
        api.snapshot_download(
            repo_id, revision=revision, local_dir=temporary, allow_patterns=[MANIFEST, *TABLES]
        )
        return _install(Path(temporary), path, sha256, name=f"{repo_id}")


def _install(
    source: Path, path: str | os.PathLike[str], sha256: str | None, name: str | None = None
) -> dict[str, Any]:
    try:
        found = read_manifest(source)["sha256"]
        if sha256 is not None and found != sha256:
            raise BundleError(source, f"its manifest is {found}, not {sha256} as wanted")
        return copy_bundle(source, path)
    except BundleError as error:
        if name is None or error.path != str(source):
            raise
        raise BundleError(name, error.reason) from error  # not the temporary folder


def _folder(repo_id: str | os.PathLike[str]) -> Path | None:
    """The folder that stands for a repository, if it is one."""
    if not isinstance(repo_id, str):
        return Path(repo_id)
    if repo_id.startswith((".", "~")) or os.path.isabs(repo_id):
        return Path(repo_id).expanduser()
    if not REPO.fullmatch(repo_id):
        raise ValueError(f"'repo_id' must be 'owner/name' or a folder (got {repo_id!r:.80})")
    return None
