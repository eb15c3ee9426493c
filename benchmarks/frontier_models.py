"""What the frontier compares: factorisations of several kinds, and the students.

Each is a function ``(world, dim, seed, setting)`` that returns a recommender whose score is an
inner product.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from compress import graphs
from torch import Tensor

from pyg_kd import compress
from pyg_kd.functional.sparse import CSR, csr_matmul
from pyg_kd.graph import interactions
from pyg_kd.knowledge import load_knowledge, save_knowledge
from pyg_kd.knowledge.requirements import graph_fingerprint
from pyg_kd.models import MF, LightGCN, QuantizationAware, Recommender
from pyg_kd.training import AlternatingLeastSquares, Trainer
from pyg_kd.training.ensemble import train_ensemble
from pyg_kd.typing import INTERACTS

#: Students that are trained in int4, and int4 without regard to lists.
IN_INT4, NEAREST = "Student in int4", "int4 to the nearest"

#: Widths of students: a step takes longest where items are many.
DIMS = {"citeulike": (20,), "gowalla": (20,), "movielens-100k": (8, 12, 20, 32, 64)}

#: Of Gowalla's users, every so many serve to validate.
VALIDATED = 4

#: Exponents of the degrees of users and items in filters.
HALVES = ((0.5, 0.5), (0.25, 0.25))

#: Further vectors of a truncated decomposition, and passes over the matrix.
OVERSAMPLED, PASSES = 30, 6


class World(NamedTuple):
    """A data set, the metric that everything is chosen by, and a folder for what was trained.

    ``val`` is what rivals and precisions are chosen on, ``all_val`` what ``compress`` gets.
    """

    name: str
    train: Any
    val: Any
    test: Any
    metric: str
    cache: Path
    all_val: Any

    @staticmethod
    def of(name: str, root: str, cache: Path) -> World:
        """The splits that ``compress.py`` measures on; of Gowalla's, a part to validate on."""
        metric = "recall@50" if name == "citeulike" else "recall@20"
        train, all_val, test = graphs(name, root)
        val = all_val
        if name == "gowalla":
            val = copy.copy(all_val)
            targets = val[INTERACTS].edge_label_index
            val[INTERACTS].edge_label_index = targets[:, targets[0] % VALIDATED == 0]
        return World(name, train, val, test, metric, cache, all_val)

    def kept(self, name: str) -> Path:
        """A file of the cache, for these splits alone."""
        return self.cache / f"{self.name}-{self.split}-{name}"

    @property
    def split(self) -> str:
        """Tells these training edges and validation targets from others."""
        targets = self.val[INTERACTS].edge_label_index.contiguous()
        known = hashlib.sha256(graph_fingerprint(self.train).encode())
        known.update(targets.numpy().tobytes())
        return known.hexdigest()[:8]

    @property
    def sizes(self) -> tuple[int, int]:
        """Users and items."""
        return self.train["user"].num_nodes, self.train["item"].num_nodes


def als(world: World, dim: int, seed: int, setting: dict[str, Any]) -> Recommender:
    """Implicit alternating least squares."""
    solver = AlternatingLeastSquares(**setting, seed=seed, progress=False)
    return solver.fit(MF(world.train, dim), world.train)


def bpr(world: World, dim: int, seed: int, setting: dict[str, Any]) -> Recommender:
    """Matrix factorisation by BPR, stopped on validation targets."""
    torch.manual_seed(seed)
    return _trained(world, MF(world.train, dim), seed, {"loss": "bpr", **setting})


def lightgcn(world: World, dim: int, seed: int, setting: dict[str, Any]) -> Recommender:
    """LightGCN by sampled softmax, served by its propagated representations."""
    torch.manual_seed(seed)
    options = {"loss": "sampled_softmax", **setting}
    return _trained(world, LightGCN(world.train, dim), seed, options)


def _trained(world: World, model: Recommender, seed: int, options: dict[str, Any]) -> Recommender:
    trainer = Trainer(metric=world.metric, seed=seed, progress=False, **options)
    trainer.fit(model, world.train, val_data=world.val)
    return model


def spectral(world: World, dim: int, seed: int, setting: dict[str, Any]) -> Recommender:
    r"""Truncated eigenvectors of closed-form filters, computed without training.

    With the singular triplets of ``D_U^-user R D_I^-item = P S Q^T``, users are ``P S`` and items
    ``D_I^power Q f(S)``. All of 1/2 with ``f = 1`` is the ideal low-pass filter of GF-CF, all of
    0 is the best approximation of ``R``; ``f = S^2 / (S^2 + ridge S_dim^2)`` is what the ridge
    regression that EASE and its kernel form start from leaves of a direction.
    """
    exponents = setting["user"], setting["item"]
    left, item, value = decomposition(world, seed, *exponents)
    shrunk = value[:dim] ** 2 / (value[:dim] ** 2 + setting["ridge"] * value[dim - 1] ** 2)
    degree = interactions(world.train).by_item().degree.clamp(min=1).float().unsqueeze(1)
    right = item[:, :dim] * shrunk * degree.pow(setting["power"])
    return Recommender.from_embeddings(world.train, left[:, :dim] * value[:dim], right)


def decomposition(
    world: World, seed: int, user: float, item: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Left and right singular vectors and values, most important first, by random projections."""
    path = world.kept(f"svd-{seed}-{user}-{item}.pt")
    if not path.exists():
        edges = interactions(world.train)
        of_user, of_item = (
            _scaled(rows, columns, *exponents)
            for rows, columns, exponents in (
                (edges.by_user(), edges.by_item(), (user, item)),
                (edges.by_item(), edges.by_user(), (item, user)),
            )
        )
        width = min(200 + OVERSAMPLED, *world.sizes)
        generator = torch.Generator().manual_seed(seed)
        right = torch.linalg.qr(torch.randn(world.sizes[1], width, generator=generator))[0]
        for _ in range(PASSES):
            left = torch.linalg.qr(csr_matmul(*of_user, right))[0]
            right = torch.linalg.qr(csr_matmul(*of_item, left))[0]
        left, value, turned = torch.linalg.svd(csr_matmul(*of_user, right), full_matrices=False)
        torch.save((left, right @ turned.t(), value), path)
    found: tuple[Tensor, Tensor, Tensor] = torch.load(path)
    return found


def _scaled(rows: Any, columns: Any, row_power: float, column_power: float) -> CSR:
    """``D_row^-row_power R D_column^-column_power``."""
    own, other = (side.degree.clamp(min=1).float() for side in (rows, columns))
    value = own.pow(-row_power).repeat_interleave(rows.degree)
    value = value * other.pow(-column_power)[rows.col]
    return CSR(rows.ptr.to(torch.int32), rows.col.to(torch.int32), value)


def student(world: World, dim: int, seed: int, setting: dict[str, Any]) -> Recommender:
    """What ``compress`` gives with its own teachers, which are trained and fused once a seed."""
    path = world.kept(f"teachers-{seed}.safetensors")
    if not path.exists():
        ensemble = train_ensemble(
            world.train, world.all_val, metric=world.metric, seed=seed, progress=False
        )
        print(ensemble.report, flush=True)
        save_knowledge(ensemble.graph, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, report = compress(
            world.train,
            world.all_val,
            dim=dim,
            teachers=[load_knowledge(path, world.train)],
            metric=world.metric,
            seed=seed,
            progress=False,
            **setting,
        )
    print(report, flush=True)
    return model


def student_in_int4(world: World, dim: int, seed: int, setting: dict[str, Any]) -> Recommender:
    """The student, trained on the numbers that int4 tables serve."""
    return student(world, dim, seed, {"model": partial(QuantizationAware, dtype="int4"), **setting})


class Family(NamedTuple):
    """A kind of table: how it is made, at which widths, and by which settings."""

    fit: Callable[[World, int, int, dict[str, Any]], Recommender]
    dims: tuple[int, ...]
    settings: tuple[dict[str, Any], ...]
    #: Widths at which settings are compared; others take those of the next of them.
    tuned: tuple[int, ...] = ()
    stored: tuple[str, ...] = ("float32", "int8", "int4")


def families(name: str) -> dict[str, Family]:
    """What is compared on a data set, by name."""
    large = name == "gowalla"
    weights = [(10.0, 30.0), (40.0, 10.0), (40.0, 30.0)]
    if not large:
        weights += [(2.0, 20.0), (5.0, 30.0), (10.0, 50.0), (40.0, 100.0)]
        weights += [(100.0, 30.0), (200.0, 100.0)]
    batch = {"batch_size": 8192 if large else 2048}
    return {
        "ALS": Family(
            als,
            (20, 64, 200) if large else (8, 20, 64, 78, 156, 200),
            tuple({"alpha": a, "regularization": r} for a, r in weights),
            (20,) if large else (20, 156),
        ),
        "BPR": Family(
            bpr,
            (20, 64) if name == "movielens-100k" else (20,),
            tuple(
                {"lr": 0.005, "weight_decay": decay, "max_epochs": 25 if large else 60,
                 "evaluate_every": 5, "patience": 2, **batch}
                for decay in ((1e-4,) if large else (1e-4, 1e-3))
            ),
            (20,),
        ),
        "LightGCN": Family(
            lightgcn,
            (20, 64) if name == "movielens-100k" else (20,),
            ({"lr": 0.01, "max_epochs": 15 if large else 24, "evaluate_every": 3, "patience": 3,
              **batch},),
        ),
        "Spectral": Family(
            spectral,
            (20, 64, 200) if large else (8, 20, 64, 78, 156, 200),
            tuple(
                {"user": user, "item": item, "power": power, "ridge": ridge}
                for user, item in (HALVES if large else (*HALVES, (0.0, 0.0), (0.0, 0.25)))
                for power in ((item,) if large else sorted({0.0, item}))
                for ridge in (0.0, 1.0)
            ),
            (64,) if large else (20, 156),
        ),
        "Student": Family(
            student, DIMS.get(name, ()), ({},),
            stored=("float32", "int8", "int4", NEAREST),
        ),
        IN_INT4: Family(student_in_int4, () if large else (20,), ({},), stored=("int4",)),
    }  # fmt: skip
