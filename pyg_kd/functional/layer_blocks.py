"""Layers of a propagation that are computed by blocks of rows and kept in files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkstemp
from typing import NamedTuple

import torch
from torch import Tensor

from pyg_kd.checks import require_count
from pyg_kd.functional.sparse import CSR


class LayerBlocks(NamedTuple):
    r"""How layers are computed that are too large to be held, or held several times.

    A block of rows is computed at a time. With a ``folder`` whole layers, results and gradients
    among them, are files mapped into memory, which the system may write out and read again: what a
    process holds of its own is a block. The files have no names and vanish with the tensors.

    Args:
        rows: Rows of a block.
        folder: Where the files are; by default layers stay in memory.
    """

    rows: int
    folder: Path | None = None

    def ranges(self, num_rows: int) -> Iterator[tuple[int, int]]:
        """The first row of every block, and the first one after it."""
        for first in range(0, num_rows, self.rows):
            yield first, min(first + self.rows, num_rows)

    def empty_like(self, x: Tensor) -> Tensor:
        """A tensor to be written, ``[n, d]``.

        Raises:
            ValueError: If layers shall be files, and ``x`` is not on the CPU.
            OSError: If there is no room for the file.
        """
        if self.folder is None or not x.numel():
            return torch.empty_like(x, memory_format=torch.contiguous_format)
        if x.device.type != "cpu":
            raise ValueError(f"'folder' needs tensors on the CPU (got one on {x.device})")
        handle, name = mkstemp(dir=self.folder, prefix=".layer-")
        try:
            # Room is taken now: a full disk would otherwise kill the process at some page.
            _reserve(handle, x.numel() * x.element_size())
            mapped = torch.from_file(
                name, shared=True, size=x.numel(), dtype=x.dtype, device=x.device
            )
        finally:
            os.close(handle)
            os.unlink(name)
        return mapped.view(x.shape)


def _reserve(handle: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
    else:
        os.truncate(handle, size)


def layer_blocks(rows: int | None, folder: str | os.PathLike[str] | None) -> LayerBlocks | None:
    """The blocks that options ask for, checked; ``None`` for layers as wholes.

    Raises:
        ValueError: If ``rows`` is not a positive integer, or missing where there is a folder.
        NotADirectoryError: If ``folder`` is none.
    """
    if rows is None:
        if folder is not None:
            raise ValueError(f"'folder' needs 'block_rows' (got folder={str(folder)!r})")
        return None
    require_count(block_rows=rows)
    if folder is not None and not Path(folder).is_dir():
        raise NotADirectoryError(f"'folder' must be a folder (got {str(folder)!r})")
    return LayerBlocks(rows, None if folder is None else Path(folder))


def rows_between(matrix: CSR, first: int, stop: int) -> CSR:
    """Some consecutive rows of a sparse matrix; entries are not copied."""
    start, end = int(matrix.ptr[first]), int(matrix.ptr[stop])
    ptr = matrix.ptr[first : stop + 1] - matrix.ptr[first]
    return CSR(ptr, matrix.col[start:end], matrix.value[start:end])
