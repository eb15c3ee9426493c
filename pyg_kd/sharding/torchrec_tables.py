"""What is used of TorchRec, in one place; it is imported when the first table is made."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch import distributed as dist

Sharding = Literal["row", "table"]
SHARDINGS: tuple[Sharding, ...] = get_args(Sharding)

RowOptimizer = Literal["rowwise_adagrad", "adagrad", "sgd"]
ROW_OPTIMIZERS: tuple[RowOptimizer, ...] = get_args(RowOptimizer)

#: Their names in FBGEMM, which has these for tables on CPUs and on GPUs.
FUSED = {
    "rowwise_adagrad": "EXACT_ROWWISE_ADAGRAD",
    "adagrad": "EXACT_ADAGRAD",
    "sgd": "EXACT_SGD",
}


class Rows(NamedTuple):
    """Some rows of a table that one process holds.

    Args:
        first: Number of the first of them in the whole table.
        tensor: The rows themselves, ``[n, ...]``: who writes to it changes the table.
    """

    first: int
    tensor: Tensor


def need(module: str) -> ModuleType:
    r"""A module of TorchRec or of FBGEMM, which it is built on.

    Raises:
        ImportError: If it is not installed, with what to do.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"sharded tables need {module.partition('.')[0]}: pip install 'pyg_kd[torchrec]', or "
            "without a GPU as `make torchrec` does it, since TorchRec asks for the CUDA build of "
            f"FBGEMM ({error})",
            name=module.partition(".")[0],
        ) from error


def sharded_collection(
    sizes: Mapping[str, int],
    dim: int,
    sharding: Sharding,
    optimizer: RowOptimizer,
    device: torch.device,
) -> nn.Module:
    r"""An ``EmbeddingCollection`` whose tables lie on the processes of the default group.

    Every process calls this, and none ever holds a whole table, unless it is the only one that
    holds any of it. The optimiser is fused into the backward pass.

    Args:
        sizes: Rows by the name of the table, which is the name of its feature too.
        dim: Width of the tables.
        sharding: ``"row"``, every table in equal ranges of rows on all processes, or ``"table"``,
            whole tables on processes in turn.
        optimizer: The optimiser of the rows.
        device: Where tables lie.

    Raises:
        ImportError: If TorchRec is missing.
    """
    modules, configs = (
        need(f"torchrec.modules.embedding_{part}") for part in ("modules", "configs")
    )
    sharders = need("torchrec.distributed.embedding")
    plans, kinds = need("torchrec.distributed.sharding_plan"), need("torchrec.distributed.types")
    fused = need("fbgemm_gpu.split_embedding_configs").EmbOptimType
    world = dist.get_world_size()
    tables = [
        configs.EmbeddingConfig(
            name=name, embedding_dim=dim, num_embeddings=size, feature_names=[name]
        )
        for name, size in sizes.items()
    ]
    collection = modules.EmbeddingCollection(tables=tables, device=torch.device("meta"))
    sharder = sharders.EmbeddingCollectionSharder({"optimizer": fused[FUSED[optimizer]]})
    # The kernel has to be named: without a GPU the default is one without an optimiser.
    how = {"compute_kernel": "fused"}
    per_table = {
        name: plans.row_wise(**how)
        if sharding == "row"
        else plans.table_wise(rank=place % world, **how)
        for place, name in enumerate(sizes)
    }
    with _quiet():
        plan = plans.construct_module_sharding_plan(
            collection,
            per_table,
            sharder=sharder,
            world_size=world,
            local_size=world,
            device_type=device.type,
        )
        group = kinds.ShardingEnv.from_process_group(dist.group.WORLD)
        sharded: nn.Module = sharder.shard(collection, plan, group, device)
        look_up(sharded, dict.fromkeys(sizes, torch.empty(0, dtype=torch.int64, device=device)))
    return sharded


def look_up(collection: nn.Module, ids: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The rows of all tables at ``ids``, int64 ``[n]`` by table; every process calls this.

    Their backward pass divides gradients by the number of processes, sends them to where the rows
    are, and takes a step of these.
    """
    jagged = need("torchrec.sparse.jagged_tensor")
    values = torch.cat(list(ids.values()))
    counts = [len(x) for x in ids.values()]
    lengths = torch.tensor(counts, dtype=torch.int64, device=values.device)
    features = jagged.KeyedJaggedTensor(keys=list(ids), values=values, lengths=lengths)
    found = collection(features)
    return {name: found[name].values() for name in ids}


def table_rows(collection: nn.Module, name: str) -> list[Rows]:
    """The rows of a table that this process holds."""
    return list(_rows_of(collection.state_dict()[f"embeddings.{name}.weight"]))


def moment_rows(collection: nn.Module, name: str) -> dict[str, list[Rows]]:
    """What the fused optimiser keeps of the rows that this process holds, by name."""
    state: dict[str, Any] = _optimizer(collection).state_dict()["state"]
    kept = state.get(f"embeddings.{name}.weight", {})
    return {key.removeprefix(f"{name}."): list(_rows_of(value)) for key, value in kept.items()}


def set_rate(collection: nn.Module, lr: float) -> None:
    """Set the learning rate of the fused optimiser from now on."""
    optimizer = _optimizer(collection)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()  # hands the rate over; rows have their steps in backward passes


def _optimizer(collection: nn.Module) -> Any:
    return collection.fused_optimizer


def _rows_of(sharded: Any) -> Iterator[Rows]:
    for shard in sharded.local_shards():
        if shard.tensor.numel():
            yield Rows(int(shard.metadata.shard_offsets[0]), shard.tensor.detach())


@contextmanager
def _quiet() -> Iterator[None]:
    """No notes of TorchRec's on how it places tables, nor of PyTorch's on what it calls."""
    loggers = [logging.getLogger(name) for name in ("torchrec", "torch.fx._symbolic_trace")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
