"""Sharded tables that some methods read as a whole between epochs, fetched by those that do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from pyg_kd.sharding.model import ShardedMF


class WholeTables(Mapping[str, Tensor]):
    r"""Whole tables by node type, each fetched when it is first asked for, and then kept.

    Every process asks for the same ones, since they fetch them together.

    Args:
        model: The sharded model.
    """

    def __init__(self, model: ShardedMF) -> None:
        self.model = model
        self.fetched: dict[str, Tensor] = {}

    def __getitem__(self, node_type: str) -> Tensor:
        if node_type not in self.fetched:
            self.fetched[node_type] = self.model.whole(node_type)
        return self.fetched[node_type]

    def __iter__(self) -> Iterator[str]:
        return iter(self.model.sizes)

    def __len__(self) -> int:
        return len(self.model.sizes)
