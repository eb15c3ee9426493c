"""Matrix factorisation whose tables are spread over processes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_at_least, require_choice, require_count
from pyg_kd.graph import check_ids, interactions
from pyg_kd.knowledge.requirements import hash_tensor
from pyg_kd.sharding.torchrec_tables import (
    ROW_OPTIMIZERS,
    SHARDINGS,
    RowOptimizer,
    Rows,
    Sharding,
    look_up,
    moment_rows,
    set_rate,
    sharded_collection,
    table_rows,
)
from pyg_kd.typing import ITEM, USER, XDict

#: Rows that are drawn from one seed: they are the same on any number of processes.
BLOCK = 1 << 16

#: Rows that are asked for at once, where many are.
MANY = 1 << 20


class ShardedMF(nn.Module):
    r"""Matrix factorisation, a student or a teacher, with tables that no process holds whole.

    The tables are TorchRec's ``EmbeddingCollection``, and their optimiser is FBGEMM's, fused into
    the backward pass: a step takes the time and the memory of the rows that it reads. All
    processes of the default group make it together, inside of
    :func:`~pyg_kd.sharding.process_group` or of a function that
    :func:`~pyg_kd.sharding.launch` calls, and call each of its methods together but those that
    say otherwise.

    Args:
        data: The training graph; only its sizes are read here.
        dim: Width of the embeddings.
        sharding: ``"row"`` (default), equal ranges of the rows of both tables on all processes, or
            ``"table"``, the users on one process and the items on another.
        optimizer: ``"rowwise_adagrad"`` (default) keeps one number for each row, ``"adagrad"``
            one for each entry, ``"sgd"`` none.
        init_std: Standard deviation of the initial embeddings.
        seed: Seed of the initial embeddings, which do not depend on the number of processes.
        device: Where this process keeps its rows.

    Raises:
        ImportError: If TorchRec is missing.
        RuntimeError: If there is no group of processes.
        ValueError: If an option is unknown or out of range, or ``data`` is not a user-item graph.
    """

    #: Fingerprint of the graph that the model was last fitted on, if known.
    fitted_on: str | None = None

    def __init__(
        self,
        data: HeteroData,
        dim: int,
        *,
        sharding: Sharding = "row",
        optimizer: RowOptimizer = "rowwise_adagrad",
        init_std: float = 0.01,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        require_count(dim=dim)
        require_choice(SHARDINGS, sharding=sharding)
        require_choice(ROW_OPTIMIZERS, optimizer=optimizer)
        require_at_least(0, init_std=init_std)
        if not dist.is_initialized():
            raise RuntimeError(
                "sharded tables need a group of processes: make the model inside of "
                "pyg_kd.sharding.process_group(), or in a function for pyg_kd.sharding.launch"
            )
        _, self.num_users, self.num_items = interactions(data)
        self.dim, self.sharding, self.optimizer = dim, sharding, optimizer
        self.init_std, self.seed, self.device = init_std, seed, torch.device(device)
        self.tables = sharded_collection(self.sizes, dim, sharding, optimizer, self.device)
        self.reset_parameters()

    @property
    def sizes(self) -> dict[str, int]:
        """Rows by node type."""
        return {USER: self.num_users, ITEM: self.num_items}

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the embeddings anew; each process draws its own rows."""
        for number, name in enumerate(self.sizes):
            for first, block in _blocks(self.local_rows(name)):
                start = first // BLOCK
                generator = torch.Generator("cpu").manual_seed(
                    (self.seed * 1_000_003 + start) * len(self.sizes) + number
                )
                drawn = torch.randn(BLOCK, self.dim, generator=generator, device="cpu")
                place = first - start * BLOCK
                block.copy_(drawn[place : place + len(block)] * self.init_std)

    def local_rows(self, node_type: str) -> list[Rows]:
        """The rows that this process holds, to be read or written to; asked for alone."""
        return table_rows(self.tables, node_type)

    def local_moments(self, node_type: str) -> dict[str, list[Rows]]:
        """What the optimiser keeps of the rows that this process holds; asked for alone."""
        return moment_rows(self.tables, node_type)

    def fetch(self, ids: Mapping[str, Tensor | None]) -> XDict:
        r"""Rows of both tables, whose backward pass is a step of the optimiser.

        Args:
            ids: Numbers of rows, distinct, int64 ``[n]`` by node type, or ``None`` for all; each
                process asks for its own.

        Returns:
            The rows ``[n, d]`` by node type. Gradients of a row are added up over processes,
            divided by their number.

        Raises:
            ValueError: If a number is out of range.
        """
        wanted = {}
        for name, size in self.sizes.items():
            asked = ids[name]
            asked = torch.arange(size, device=self.device) if asked is None else asked
            check_ids(f"ids[{name!r}]", asked, size)
            wanted[name] = asked.to(self.device, torch.int64)
        return look_up(self.tables, wanted)

    @torch.no_grad()
    def rows(self, node_type: str, ids: Tensor) -> Tensor:
        """Rows of one table at ``ids``, int64 ``[n]``, without gradients: ``[n, d]``."""
        other = {name: ids.new_empty(0) for name in self.sizes}
        most = torch.tensor([len(ids)], device=self.device)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        parts = [
            self.fetch({**other, node_type: ids[start : start + MANY]})[node_type]
            for start in range(0, max(int(most), 1), MANY)
        ]
        return torch.cat(parts)

    def whole(self, node_type: str) -> Tensor:
        """A whole table, ``[n, d]``, in every process."""
        return self.rows(node_type, torch.arange(self.sizes[node_type], device=self.device))

    @torch.no_grad()
    def load_tables(self, x_dict: Mapping[str, Tensor]) -> None:
        r"""Take the embeddings of a model that is not sharded; each process copies its own rows.

        Args:
            x_dict: The tables ``[U, d]`` and ``[I, d]``, which may be mapped from files.

        Raises:
            ValueError: If a table has another shape.
        """
        for name, size in self.sizes.items():
            if x_dict[name].shape != (size, self.dim):
                raise ValueError(
                    f"the table of {name!r} must be [{size}, {self.dim}] "
                    f"(got {list(x_dict[name].shape)})"
                )
            for first, block in _blocks(self.local_rows(name)):
                block.copy_(x_dict[name][first : first + len(block)])

    def fingerprint(self) -> str:
        """What :func:`~pyg_kd.knowledge.model_fingerprint` says of an ``MF`` of the same tables."""
        names = sorted(self.sizes)
        shapes = [(f"{name}_embedding", [self.sizes[name], self.dim]) for name in names]
        digest, first = hashlib.sha256(f"MF {shapes}".encode()), dist.get_rank() == 0
        for name in names:
            for start in range(0, self.sizes[name], MANY):
                ids = torch.arange(start, min(start + MANY, self.sizes[name]), device=self.device)
                rows = self.rows(name, ids if first else ids[:0])
                hash_tensor(digest, rows)
        told = [digest.hexdigest()]
        dist.broadcast_object_list(told)
        return told[0]

    def set_rate(self, lr: float) -> None:
        """Set the learning rate of the steps from now on; done alone."""
        set_rate(self.tables, lr)

    @property
    def local_bytes(self) -> int:
        """Bytes of the tables and of what the optimiser keeps, in this process."""
        held = [rows for name in self.sizes for rows in self.local_rows(name)]
        for name in self.sizes:
            held += [rows for kept in self.local_moments(name).values() for rows in kept]
        return sum(rows.tensor.nbytes for rows in held)

    def __repr__(self) -> str:
        return (
            f"ShardedMF({self.num_users}, {self.num_items}, dim={self.dim}, "
            f"sharding={self.sharding!r}, optimizer={self.optimizer!r})"
        )


def _blocks(held: list[Rows]) -> Iterator[tuple[int, Tensor]]:
    """Parts of the rows that a process holds, none of which crosses a multiple of ``BLOCK``."""
    for first, tensor in held:
        start = first
        while start < first + len(tensor):
            stop = min(start // BLOCK * BLOCK + BLOCK, first + len(tensor))
            yield start, tensor[start - first : stop - first]
            start = stop
