"""Run every method, the models, a training and a ranking on a GPU, and compare with the CPU.

    python benchmarks/cuda_check.py

Writes ``results/cuda_check.log``: the date, the machine, and a line for each comparison. The exit
code is 0 if all differences keep their bounds, 1 if not, 2 where there is no CUDA. A run on the
CPU (``--device cpu``) compares it with itself and writes nothing.

What is random is drawn on the CPU in both runs and carried over, so the same triples, items and
noise are compared.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import inspect
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from report import RESULTS, machine
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch_geometric.data import HeteroData

import pyg_kd
from pyg_kd import Trainer, evaluate, extract_knowledge
from pyg_kd import models as room
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.distill import Distillation
from pyg_kd.knowledge import TrajectoryRecorder, attach_trajectories
from pyg_kd.models import MF, LightGCN, Recommender
from pyg_kd.transforms import UserSplit
from pyg_kd.typing import Batch, XDict

TEACHER_DIM, DIM, NUM_RANKED = 24, 12, 80
#: Relative differences: one forward and backward pass in float32, and a training of some epochs.
PASS, TRAINING = 1e-3, 2e-2
RANDOM = {"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like",
          "multinomial", "bernoulli", "bernoulli_", "normal_", "uniform_", "exponential_",
          "random_", "normal", "native_dropout", "poisson"}  # fmt: skip


@dataclass
class Row:
    """One comparison."""

    name: str
    difference: float
    bound: float

    def __str__(self) -> str:
        """A line of the log."""
        verdict = "ok" if self.difference <= self.bound else "FAILED"
        return f"{verdict:6}  {self.difference:8.2e} <= {self.bound:.0e}  {self.name}"


class DrawnOnTheCPU(TorchDispatchMode):
    """Random operators run on the CPU, by its generator, whatever device they are asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator."""
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        if name not in RANDOM:
            return func(*args, **kwargs)
        found = [x.device for x in args if isinstance(x, Tensor)]
        device = torch.device(kwargs.get("device") or (found[0] if found else "cpu"))
        if device.type == "cpu":
            return func(*args, **kwargs)
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        kwargs.pop("generator", None)
        drawn = func(*tree_map_only(Tensor, Tensor.cpu, args), **kwargs)
        if name.endswith("_"):
            args[0].copy_(drawn)
            return args[0]
        return tree_map_only(Tensor, lambda x: x.to(device), drawn)


def difference(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative to the largest entry; not finite is infinitely wrong."""
    found, wanted = found.detach().double().cpu(), wanted.detach().double().cpu()
    scale = float(wanted.abs().max()) if wanted.numel() else 0.0
    error = float((found - wanted).abs().max()) if wanted.numel() else 0.0
    return error / max(scale, 1e-12) if bool(found.isfinite().all()) else float("inf")


def world() -> tuple[HeteroData, Batch]:
    """A graph with all knowledge, and a batch."""
    torch.manual_seed(0)
    data = SyntheticInteractions(None, num_users=300, num_items=200, num_edges=4_000)[0]
    teacher = MF(data, TEACHER_DIM, init_std=1.0)
    graph = extract_knowledge(teacher, data, num_items=NUM_RANKED, num_users=NUM_RANKED // 2)
    graph = attach_trajectories(graph, [trajectory(graph, dim) for dim in (TEACHER_DIM, 30)])
    user, item = data["user", "interacts", "item"].edge_index[:, torch.randperm(4_000)[:256]]
    return graph, Batch(user, item, torch.randint(200, (256,)))


def trajectory(graph: HeteroData, dim: int) -> Any:
    """Three states of a teacher."""
    recorder = TrajectoryRecorder(range(2), num_items=NUM_RANKED, num_states=3)
    for epoch in range(3):
        model = MF(graph, dim, init_std=1.0)
        recorder(epoch, model, graph)
    return recorder.finish(model, graph)


def methods() -> Iterator[type[Distillation]]:
    """Every exported method."""
    for name in pyg_kd.__all__:
        found = getattr(pyg_kd, name)
        if inspect.isclass(found) and issubclass(found, Distillation) and found is not Distillation:
            yield found


def passed(
    method_cls: type[Distillation], graph: HeteroData, batch: Batch, device: str
) -> list[Tensor]:
    """The loss of a method on a device, and the gradients of the student and of its parameters."""
    torch.manual_seed(1)
    x_dict: XDict = {
        node_type: torch.randn(graph[node_type].num_nodes, DIM).to(device).requires_grad_()
        for node_type in ("user", "item")
    }
    with DrawnOnTheCPU():
        method = method_cls().bind(copy.copy(graph).to(device), DIM).to(device)
        still = {key: x.detach() for key, x in x_dict.items()}
        for epoch in range(getattr(method, "first_epoch", -1) + 1):
            method.on_epoch_start(epoch, epoch + 1, still)
        moved = Batch(*(x.to(device) for x in (batch.user, batch.positive, batch.negative)))
        loss = method(x_dict, copy.copy(graph).to(device), moved)
        loss.backward()
    gradients = [x.grad for x in (*x_dict.values(), *method.parameters()) if x.grad is not None]
    return [loss, *gradients]


def compare_methods(device: str) -> Iterator[Row]:
    """Losses and gradients of every method."""
    graph, batch = world()
    for method_cls in methods():
        wanted = passed(method_cls, graph, batch, "cpu")
        found = passed(method_cls, graph, batch, device)
        worst = max(difference(*pair) for pair in zip(found, wanted, strict=True))
        yield Row(f"{method_cls.__name__}, loss and gradients", worst, PASS)


def compare_models(device: str) -> Iterator[Row]:
    """Scores of every model with the same parameters."""
    data = SyntheticInteractions(None, num_users=300, num_items=200, num_edges=4_000)[0]
    for name in room.__all__:
        found = getattr(room, name)
        if not inspect.isclass(found) or not issubclass(found, Recommender) or not found.trainable:
            continue
        made = None if found is Recommender else model_of(found, data)
        if made is None:
            continue
        scores = [scores_of(copy.deepcopy(made).to(d), data, d) for d in ("cpu", device)]
        yield Row(f"{name}, scores of all items", difference(scores[1], scores[0]), PASS)


def model_of(model_cls: type[Recommender], data: HeteroData) -> Recommender | None:
    """A model of random weights, if it is made from a graph and a width."""
    torch.manual_seed(0)
    make: Callable[..., Recommender] = model_cls
    try:
        return make(data, 16).eval()
    except TypeError:  # abstract, or around another model
        return None


def scores_of(model: Recommender, data: HeteroData, device: str) -> Tensor:
    """What the model gives to every item of the first users."""
    with torch.no_grad():
        x_dict = model(copy.copy(data).to(device))
        return model.score_block(x_dict["user"][:20], x_dict["item"])


def compare_training(device: str) -> Iterator[Row]:
    """Losses and accuracy of a distilled LightGCN after the same batches on both devices."""
    data = SyntheticInteractions(None, num_users=300, num_items=200, num_edges=6_000)[0]
    train, val, _ = UserSplit(seed=0)(data)
    graph = extract_knowledge(MF(train, TEACHER_DIM, init_std=1.0), train, num_items=NUM_RANKED)
    base, recall = [], []
    for place in ("cpu", device):
        torch.manual_seed(0)
        student = LightGCN(graph, 16, num_layers=2)
        options: dict[str, Any] = {"max_epochs": 5, "batch_size": 512, "progress": False}
        trainer = Trainer(**options, accelerator=place.partition(":")[0], seed=0)
        methods = [
            (pyg_kd.RelaxedRankingDistillation(), 0.1),
            (pyg_kd.TopologyDistillation(), 1e-4),
        ]
        with DrawnOnTheCPU():
            history = trainer.fit(student, graph, distillations=methods)
        base.append(torch.tensor(history["RelaxedRankingDistillation"]))
        found = evaluate(student.cpu(), train.cpu(), val.cpu(), k=20)
        recall.append(torch.tensor(found["recall@20"]))
    yield Row("five epochs of LightGCN with RRD and HTD, losses", difference(*base), TRAINING)
    yield Row("the same, recall@20 on validation", difference(*recall), TRAINING)


def compare_rankings(device: str) -> Iterator[Row]:
    """Lists of everyone: the scores of the places, as equal scores may change places."""
    data = SyntheticInteractions(None, num_users=300, num_items=200, num_edges=4_000)[0]
    torch.manual_seed(0)
    model = MF(data, 16, init_std=1.0)
    lists = [
        copy.deepcopy(model).to(place).recommend(copy.copy(data).to(place), k=20)
        for place in ("cpu", device)
    ]
    yield Row("scores of everyone's list", difference(lists[1][1], lists[0][1]), PASS)


def log(rows: list[Row], device: str) -> str:
    """The text of the log."""
    facts = machine()
    lines = [f"date     {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC"]
    if torch.device(device).type == "cuda":
        lines.append(f"device   {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    lines.append(f"package  pyg_kd {pyg_kd.__version__}, PyTorch {facts['torch']}")
    lines.append(f"python   {facts['python']}, {platform.system()}, {facts['cpu']}")
    return "\n".join([*lines, "", *map(str, rows)]) + "\n"


def main() -> int:
    """Compare, print, write, and say whether it went well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="compared with the CPU")
    parser.add_argument("--out", type=Path, default=RESULTS / "cuda_check.log")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("there is no CUDA device here: nothing was checked", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for part in (compare_methods, compare_models, compare_training, compare_rankings):
        for row in part(options.device):
            print(row, flush=True)
            rows.append(row)
    if options.device.startswith("cuda"):
        options.out.write_text(log(rows, options.device))
        print(f"wrote {options.out}")
    return int(any(row.difference > row.bound for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
