"""What the outputs of executed pages depend on, beside the pages themselves."""

from __future__ import annotations

import hashlib
from pathlib import Path


def package_fingerprint(root: Path) -> str:
    """A digest of the package's sources: other code, other outputs."""
    digest = hashlib.sha256()
    for path in sorted((root / "pyg_kd").rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
