"""Fits of everything that is exported, on as many processes as the command line says.

``python fits_on_processes.py FOLDER DEVICES`` writes ``FOLDER/DEVICES-RANK.pt``. What is exported
is found here: a new method or model needs no line.
"""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData

import pyg_kd
from pyg_kd import models as model_room
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.distill import (
    ConsensusLearning,
    Distillation,
    DistillationExperts,
    HintRegression,
    RelaxedRankingDistillation,
    SoftLabel,
    TopologyDistillation,
)
from pyg_kd.knowledge import TrajectoryRecorder, attach_trajectories, extract_knowledge
from pyg_kd.models import MF, LightGCN, MultiBranch, QuantizationAware, Recommender
from pyg_kd.training import CatalogueSoftmax, SampledSoftmax, Trainer, run
from pyg_kd.training.diagnostics import Diagnostics
from pyg_kd.training.exchange import SMALL, sum_gradients
from pyg_kd.transforms import UserSplit
from pyg_kd.typing import Batch, XDict

#: The number of this process, until the first fit makes it the first of several.
RANK = int(os.environ.get("LOCAL_RANK", 0))

#: Options without which so short a run would not get to what a method does.
SHORT = {
    "ConsensusLearning": {"window": 1, "period": 1, "num_listed": 20},
    "HetComp": {"interval": 1},
}


def exported(room: Any, base: type) -> list[type]:
    """The classes of a room, without their base."""
    found = (getattr(room, name) for name in room.__all__)
    return [v for v in found if isinstance(v, type) and issubclass(v, base) and v is not base]


def world() -> tuple[HeteroData, HeteroData, HeteroData]:
    """A graph, its validation targets, and the graph with all knowledge, in float64."""
    torch.manual_seed(0)
    data = SyntheticInteractions(None, num_users=40, num_items=120, num_edges=500)[0]
    data, val, _ = UserSplit(val=0.1)(data)
    teacher = MF(data, 12, init_std=1.0)
    graph = extract_knowledge(teacher, data, num_items=60, num_users=20)
    trajectories = []
    for width in (12, 13):
        recorder = TrajectoryRecorder(range(2), num_items=60, num_states=3)
        for epoch in range(3):
            model = MF(data, width, init_std=1.0)
            recorder(epoch, model, data)
        trajectories.append(recorder.finish(model, data))
    graph = attach_trajectories(graph, trajectories)
    for node_type in ("user", "item"):
        graph[node_type].teacher_x = graph[node_type].teacher_x.double()
    return data, val, graph


class Spread(Distillation):
    """Relates all users of a batch: what it is for shares doesn't add up."""

    splits = False

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> torch.Tensor:
        """Push users away from their mean."""
        self.ensure_bound(x_dict, graph)
        x = x_dict["user"][batch.unique_users]
        return (-(x - x.mean(0)).square().sum()).exp()


def gradients_of(rank: int) -> list[torch.Tensor | None]:
    """Gradients of every kind that a process may have, as those of one process."""
    draw = torch.Generator().manual_seed(rank)

    def rows(*ids: int) -> torch.Tensor:
        values = torch.randn(len(ids), 3, generator=draw, dtype=torch.double)
        return torch.sparse_coo_tensor(torch.tensor([ids], dtype=torch.long), values, (9, 3))

    def dense(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.double)

    return [
        dense(4, 2).t(),  # not contiguous
        dense(5).float(),
        dense(SMALL // 3 + 1, 3),
        dense(2) if rank else None,
        None,
        rows(7, 1, 7) if rank else rows(1, 2),
        rows() if rank else rows(0, 8),
        rows(3) if rank else None,
        rows(3) if rank else dense(9, 3),
        rows(),
    ]


class Fits:
    """Results of fits by name, as plain tensors and numbers."""

    def __init__(self, folder: Path, devices: int) -> None:
        self.folder, self.devices = folder, devices
        self.data, self.val, self.graph = world()
        self.results: dict[str, Any] = {}

    def fit(
        self,
        name: str,
        kind: Callable[[HeteroData, int], Recommender] = MF,
        method: Distillation | Callable[[Any], Distillation] | None = None,
        *,
        resume: bool = False,
        callbacks: Sequence[Callable[..., object]] = (),
        **options: Any,
    ) -> None:
        """One fit, whose result is kept under ``name``."""
        torch.manual_seed(1)
        model = kind(self.data, 6)
        if method is not None and not isinstance(method, Distillation):
            method = method(model)
        num_edges = self.data["user", "item"].edge_index.size(1)
        defaults = {
            "max_epochs": 2,
            # One interaction is left for the last batch: a process has no share in it.
            "batch_size": (num_edges - 1) // 2,
            "precision": "64-true",
            "accelerator": "cpu",
            "devices": self.devices,
            "strategy": "ddp" if self.devices > 1 else "auto",
            "progress": False,
        }
        history = Trainer(**defaults | options).fit(
            model,
            self.data if method is None else self.graph,
            val_data=self.val if "checkpoint_dir" in options else None,
            distillations=[] if method is None else [(method, 0.1)],
            callbacks=callbacks,
            resume=resume,
        )
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
        state = {k: v.clone() for k, v in model.state_dict().items() if isinstance(v, torch.Tensor)}
        self.results[name] = {"state": state, "rows": rows}

    def methods(self) -> None:
        """Every exported method, and choices that compute another sum."""
        for cls in exported(pyg_kd, Distillation):
            self.fit(cls.__name__, method=cls(**SHORT.get(cls.__name__, {})))
        self.fit("FTD", LightGCN, TopologyDistillation("full"))
        self.fit("FTD, all entities", method=TopologyDistillation("full", entities="all"))
        self.fit("FTD, few entities", method=TopologyDistillation("full"), batch_size=5)
        self.fit("HTD, reference", method=TopologyDistillation(variant="reference"))
        self.fit("DE, reference", method=DistillationExperts(variant="reference"))

    def models(self) -> None:
        """Every exported model by its own loss."""
        for cls in exported(model_room, Recommender):
            if cls.trainable and not issubclass(cls, QuantizationAware):
                self.fit(cls.__name__, cls)
        for variant in ("paper", "reference"):
            self.fit(
                f"ConCF, {variant}",
                partial(MultiBranch, variant=variant),
                lambda model, variant=variant: ConsensusLearning(
                    heads=model.layout,
                    weights=model.branch_weights,
                    variant=variant,
                    **SHORT["ConsensusLearning"],
                ),
                max_epochs=4,
            )

    def losses(self) -> None:
        """Every base loss, and ways to train."""
        soft = SoftLabel(num_listed=20)
        self.fit("in batch", loss=SampledSoftmax(negatives="both"), base_weight=2.0)
        self.fit("catalogue", loss=CatalogueSoftmax(num_items=20), batch_by="user")
        self.fit("decay", LightGCN, weight_decay=0.3, num_negatives=2)
        self.fit("users", LightGCN, soft, batch_by="user", batch_size=7)
        self.fit("users alone", MF, soft, batch_by="user", batch_size=7, base_weight=0.0)
        self.fit("several batches", LightGCN, soft, batches_per_step=3, batch_size=64)
        self.fit("average", LightGCN, average=1.0, warmup=0.2, schedule="cosine")
        ranking = RelaxedRankingDistillation(num_interesting=6, num_uninteresting=6)
        self.fit("rows", method=HintRegression(), sparse=True, batch_size=20)
        self.fit("rows of users", method=ranking, sparse=True, batch_size=20)
        self.fit("rows of several batches", sparse=True, batch_size=20, batches_per_step=3)
        self.fit("float32", LightGCN, ranking, precision="32-true")
        self.fit("bfloat16", LightGCN, ranking, precision="bf16-mixed")

        self.fit("relates entities", method=Spread())
        self.fit("observed", LightGCN, ranking, callbacks=[Diagnostics()])
        self.fit("all neighbours", LightGCN, ranking, num_neighbors=[-1, -1])
        self.fit("drawn neighbours", LightGCN, ranking, num_neighbors=[2, 2])

    def gradients(self) -> None:
        """The sums of gradients over two processes, here or by these."""
        pairs = list(zip(*(gradients_of(rank) for rank in range(2)), strict=True))
        found = [_added(*pair) for pair in pairs]
        if self.devices == 2:
            like = [torch.zeros(1) if x is None else x for x in found]
            parameters = [torch.nn.Parameter(torch.zeros(x.shape, dtype=x.dtype)) for x in like]
            for parameter, pair in zip(parameters, pairs, strict=True):
                parameter.grad = pair[RANK]
            sum_gradients(parameters)
            found = [parameter.grad for parameter in parameters]
        state = {str(k): x.to_dense() for k, x in enumerate(found) if x is not None}
        sparse = {str(k): float(x.is_sparse) for k, x in enumerate(found) if x is not None}
        self.results["gradients"] = {"state": state, "rows": [sparse]}

    def checkpoints(self) -> None:
        """A run that is interrupted goes on with as many processes."""
        place, copied = (self.folder / f"{name}-{self.devices}" for name in ("again", "stopped"))
        self.long("whole", self.folder / f"whole-{self.devices}")
        with suppress(KeyboardInterrupt):
            self.long("stopped", place, callbacks=[_stop])
        if RANK == 0:
            shutil.copytree(place, copied)
        self.long("again", place, resume=True)

    def take_over(self, devices: int) -> None:
        """A run that was begun with another number of processes goes on with this one."""
        self.long("taken over", self.folder / f"stopped-{devices}", resume=True)

    def long(self, name: str, place: Path, **options: Any) -> None:
        """A run that keeps more than weights."""
        ranking = RelaxedRankingDistillation(num_interesting=6, num_uninteresting=6)
        options |= {"weight_decay": 0.3, "average": 1.0, "max_epochs": 4}
        self.fit(name, LightGCN, ranking, checkpoint_dir=place, **options)


def _added(one: torch.Tensor | None, two: torch.Tensor | None) -> torch.Tensor | None:
    if one is None or two is None:
        return two if one is None else one
    if one.is_sparse and two.is_sparse:
        return one + two
    return one.to_dense() + two.to_dense()


def _stop(epoch: int, model: Recommender, data: HeteroData) -> None:
    if epoch == 2:
        raise KeyboardInterrupt


def main() -> None:
    """Run all, and write what came out."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "the teacher is no better than its student")
    folder, devices = Path(sys.argv[1]), int(sys.argv[2])
    save, written = run.save_checkpoint, []

    def note(state: dict[str, Any], path: Path) -> None:
        written.append(path.parent.name)
        save(state, path)

    run.save_checkpoint = note
    fits = Fits(folder, devices)
    for part in (fits.methods, fits.models, fits.losses, fits.gradients, fits.checkpoints):
        part()
    if (folder / f"stopped-{3 - devices}").exists():
        fits.take_over(3 - devices)
    torch.save({**fits.results, "written": written}, folder / f"{devices}-{RANK}.pt")


if __name__ == "__main__":
    main()
