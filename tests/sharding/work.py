"""What processes of the tests do: functions that they import."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch_geometric.data import HeteroData

from pyg_kd import (
    DistillationExperts,
    ItemSideRankingRegularization,
    RejuvenatedCrossEntropy,
    RelaxedRankingDistillation,
    SoftLabel,
    TopologyDistillation,
)
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import MF
from pyg_kd.sharding import ShardedMF, ShardedTrainer, attach_teacher, save_sharded_student
from pyg_kd.sharding.run import ShardedRun
from pyg_kd.training import SampledSoftmax
from pyg_kd.transforms import UserSplit

DIM, EPOCHS, BATCH = 8, 3, 115

Pairs = list[tuple[Any, float]]

#: Of experts. Where they are chosen more and more sharply, two that are nearly equal are told apart
#: by rounding in the end.
SOFT = 1.0

METHODS: dict[str, Callable[[], Pairs]] = {
    "alone": lambda: [],
    "soft_label": lambda: [(SoftLabel(num_listed=20, own_weight=0.5), 0.1)],
    "soft_label_list": lambda: [(SoftLabel(num_listed=20, tail="list"), 0.1)],
    "rrd": lambda: [(RelaxedRankingDistillation(num_interesting=10, num_uninteresting=10), 0.1)],
    "ir_rrd": lambda: [
        (
            ItemSideRankingRegularization(
                num_interesting=10,
                num_uninteresting=10,
                ranking=RelaxedRankingDistillation(num_interesting=10, num_uninteresting=10),
            ),
            0.1,
        )
    ],
    "rce_kd": lambda: [
        (RejuvenatedCrossEntropy(num_listed=10, num_sampled=10, num_candidates=30), 0.1)
    ],
    "ftd": lambda: [(TopologyDistillation("full"), 1e-3)],
    "htd": lambda: [(TopologyDistillation(num_groups=5, temperature=SOFT), 1e-3)],
    "de": lambda: [(DistillationExperts(num_experts=5, temperature=SOFT), 1e-2)],
    "two": lambda: [
        (DistillationExperts(num_experts=5, temperature=SOFT), 1e-2),
        (RelaxedRankingDistillation(num_interesting=10, num_uninteresting=10), 0.1),
    ],
}


def graphs() -> tuple[HeteroData, HeteroData]:
    """A graph with the knowledge of a wide teacher, and validation targets."""
    data = SyntheticInteractions(None, num_users=150, num_items=80, num_edges=2500)[0]
    train, val, _ = UserSplit(seed=0)(data)
    torch.manual_seed(0)
    teacher = MF(train, 24, init_std=0.5)
    return extract_knowledge(teacher, train, num_items=30, num_users=30), val


def trainer(**options: Any) -> ShardedTrainer:
    usual = {"max_epochs": EPOCHS, "batch_size": BATCH, "progress": False, "restore_best": False}
    return ShardedTrainer(**{**usual, **options})


def student(graph: HeteroData, sharding: str = "row", **options: Any) -> ShardedMF:
    return ShardedMF(graph, DIM, sharding=sharding, init_std=0.1, **options)


def told(model: ShardedMF, history: Any) -> dict[str, Any]:
    """What a run came to, as far as it is no matter of time."""
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
    tables = {name: model.whole(name) for name in ("user", "item")}
    return {**tables, "rows": rows, "best": history.best_epoch}


def fit_all(names: list[str], sharding: str = "row") -> dict[str, dict[str, Any]]:
    graph, val = graphs()
    found = {}
    for name in names:
        model = student(graph, sharding)
        history = trainer().fit(model, graph, val_data=val, distillations=METHODS[name]())
        found[name] = told(model, history)
    model = student(graph, sharding)
    loss = SampledSoftmax(negatives="in_batch")
    found["softmax"] = told(model, trainer(loss=loss, lr=0.01).fit(model, graph))
    return found


def interrupt(folder: str) -> None:
    """A run that ends in its last epoch, after it has trained and before it has saved."""
    graph, val = graphs()
    check = ShardedRun.check

    def fail(self: ShardedRun, losses: dict[str, float]) -> None:
        check(self, losses)
        if self.epoch == EPOCHS - 1:
            raise RuntimeError("interrupted")

    ShardedRun.check = fail  # type: ignore[method-assign]
    try:
        fit_into(folder, student(graph), graph, val)
    except RuntimeError as error:
        assert str(error) == "interrupted"
    else:
        raise AssertionError("it was not interrupted")
    finally:
        ShardedRun.check = check  # type: ignore[method-assign]


def fit_into(
    folder: str, model: ShardedMF, graph: HeteroData, val: HeteroData, **options: Any
) -> Any:
    resume = options.pop("resume", False)
    return trainer(checkpoint_dir=folder, restore_best=True, **options).fit(
        model, graph, val_data=val, distillations=METHODS["two"](), resume=resume
    )


def go_on(folder: str, sharding: str) -> dict[str, Any]:
    graph, val = graphs()
    model = student(graph, sharding, seed=5)  # its rows come from the checkpoint
    return told(model, fit_into(folder, model, graph, val, resume=True))


def uninterrupted(folder: str) -> dict[str, Any]:
    graph, val = graphs()
    model = student(graph)
    return told(model, fit_into(folder, model, graph, val))


def errors(folder: str) -> dict[str, str]:
    """What processes say to what is wrong in one of them."""
    graph, val = graphs()
    found = {}

    def note(name: str, work: Callable[[], object]) -> None:
        try:
            work()
        except (ValueError, TypeError) as error:
            found[name] = str(error)

    other = SyntheticInteractions(None, num_users=150, num_items=80, num_edges=2400)[0]
    own = UserSplit(seed=0)(other)[0] if dist.get_rank() else graph
    note("graph", lambda: trainer().fit(student(graph), own))
    note("model", lambda: trainer().fit(ShardedMF(other, 4), HeteroData()))
    note("options", lambda: fit_into(folder, student(graph), graph, val, lr=0.1))
    dist.barrier()
    damaged = sorted(Path(folder).glob("item-*.safetensors"))[-1]
    content = damaged.read_bytes()
    dist.barrier()
    if dist.get_rank() == 0:
        damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    dist.barrier()
    model = student(graph)
    before = model.whole("item")
    note("damaged", lambda: fit_into(folder, model, graph, val, resume=True))
    assert torch.equal(model.whole("item"), before)
    if dist.get_rank() == 0:
        damaged.write_bytes(content)
    dist.barrier()
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, found)
    assert all(each == found for each in gathered), gathered
    return found


def from_sharded_teacher(names: list[str]) -> dict[str, dict[str, Any]]:
    """As :func:`fit_all`, where the teacher's tables are spread over the processes too."""
    graph, val = graphs()
    plain = {name: graph[name].teacher_x for name in ("user", "item")}
    teacher = ShardedMF(graph, plain["user"].size(1))
    teacher.load_tables(plain)
    sharded, found = attach_teacher(graph, teacher), {}
    assert sharded.teacher_fingerprint == graph.teacher_fingerprint
    assert torch.equal(sharded["user"].teacher_items, graph["user"].teacher_items)
    for name in names:
        model = student(sharded)
        history = trainer().fit(model, sharded, val_data=val, distillations=METHODS[name]())
        found[name] = told(model, history)
    return found


def one(folder: str) -> dict[str, Any]:
    return {
        "row": fit_all(list(METHODS)),
        "whole": uninterrupted(f"{folder}/whole-1"),
        "resumed": go_on(f"{folder}/for-1", "row"),
        "bundle": bundle(f"{folder}/bundle-1"),
    }


def two(folder: str) -> dict[str, Any]:
    interrupt(f"{folder}/half")
    return {
        "row": fit_all(list(METHODS)),
        "table": fit_all(list(METHODS), "table"),
        "teacher": from_sharded_teacher(["ftd", "htd", "two"]),
        "whole": uninterrupted(f"{folder}/whole-2"),
        "bundle": bundle(f"{folder}/bundle-2"),
        "bytes": student(graphs()[0]).local_bytes,
    }


def three(folder: str) -> dict[str, Any]:
    return {
        "row": fit_all(["rrd", "htd"]),
        "resumed": go_on(f"{folder}/for-3", "row"),
        "errors": errors(f"{folder}/for-errors"),
    }


def resumed_by_two(folder: str) -> dict[str, Any]:
    return {"row": go_on(f"{folder}/for-2", "row"), "table": go_on(f"{folder}/for-table", "table")}


def bundle(path: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A bundle of rows that were not trained, and these rows."""
    graph, _ = graphs()
    model = student(graph)
    return save_sharded_student(model, path, graph=graph), {
        name: model.whole(name) for name in ("user", "item")
    }


def threes(value: int) -> int:
    """The sum of ``value`` over the processes, in each."""
    total = torch.tensor(value)
    dist.all_reduce(total)
    return int(total)


def fail_in(rank: int) -> None:
    """Raise in one process, while the others wait for it."""
    if dist.get_rank() == rank:
        raise KeyError("no such row")
    dist.barrier()


def end_in(rank: int) -> None:
    """End one process as the system does where memory is short."""
    if dist.get_rank() == rank:
        os.kill(os.getpid(), 9)
    dist.barrier()


def wait_for_ever(folder: str) -> None:
    """Tell the number of the process, and wait."""
    Path(folder, f"{os.getpid()}.pid").touch()
    time.sleep(600)
