"""What the frontier compares: factorisations of several kinds, and the students.

Each is a function ``(world, dim, seed, setting)`` that returns a recommender whose score is an
inner product.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from compress import graphs
from torch import Tensor

from pyg_kd import compress
from pyg_kd.functional.propagate import normalized_adjacency
from pyg_kd.functional.sparse import csr_matmul
from pyg_kd.knowledge import load_knowledge, save_knowledge
from pyg_kd.models import MF, LightGCN, Recommender
from pyg_kd.training import AlternatingLeastSquares, Trainer
from pyg_kd.training.ensemble import train_ensemble

#: Further vectors of a truncated decomposition, and passes over the matrix.
OVERSAMPLED, PASSES = 30, 6


class World(NamedTuple):
    """A data set, the metric that everything is chosen by, and a folder for what was trained."""

    name: str
    train: Any
    val: Any
    test: Any
    metric: str
    cache: Path

    @staticmethod
    def of(name: str, root: str, cache: Path) -> World:
        """The splits that ``compress.py`` measures on."""
        metric = "recall@50" if name == "citeulike" else "recall@20"
        return World(name, *graphs(name, root), metric, cache)

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

    With singular triplets of the normalised adjacency, ``(D_U^-1/2 R D_I^-1/2) = P S Q^T``, users
    are ``R D_I^-1/2 Q`` and items ``D_I^power Q f(S)``. ``power`` 1/2 and ``f = 1`` is the ideal
    low-pass filter of GF-CF. ``ridge``, ``f = S^2 / (S^2 + ridge)``, is what the ridge regression
    that EASE and its kernel form start from leaves of a direction.
    """
    user, item, value = decomposition(world, seed)
    degree = [side.degree.clamp(min=1).float() for side in _sides(world)]
    left = user[:, :dim] * value[:dim] * degree[0].sqrt().unsqueeze(1)
    ridge = setting["ridge"]
    kept = torch.ones(dim) if ridge == 0 else value[:dim] ** 2 / (value[:dim] ** 2 + ridge)
    right = item[:, :dim] * kept * degree[1].pow(setting["power"]).unsqueeze(1)
    return Recommender.from_embeddings(world.train, left, right)


def decomposition(world: World, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Left and right singular vectors and values, most important first, by random projections."""
    path = world.cache / f"{world.name}-svd-{seed}.pt"
    if not path.exists():
        of_user, of_item = normalized_adjacency(world.train)
        generator = torch.Generator().manual_seed(seed)
        width = min(200, *world.sizes) + min(OVERSAMPLED, min(world.sizes) - 1)
        width = min(width, *world.sizes)
        item = torch.linalg.qr(torch.randn(world.sizes[1], width, generator=generator))[0]
        for _ in range(PASSES):
            user = torch.linalg.qr(csr_matmul(*of_user, item))[0]
            item = torch.linalg.qr(csr_matmul(*of_item, user))[0]
        left, value, right = torch.linalg.svd(csr_matmul(*of_user, item), full_matrices=False)
        torch.save((left, item @ right.t(), value), path)
    found: tuple[Tensor, Tensor, Tensor] = torch.load(path)
    return found


def _sides(world: World) -> tuple[Any, Any]:
    from pyg_kd.graph import interactions

    edges = interactions(world.train)
    return edges.by_user(), edges.by_item()


def student(world: World, dim: int, seed: int, setting: dict[str, Any]) -> Recommender:
    """What ``compress`` gives with its own teachers, which are trained and fused once a seed."""
    path = world.cache / f"{world.name}-teachers-{seed}.safetensors"
    if not path.exists():
        ensemble = train_ensemble(
            world.train, world.val, metric=world.metric, seed=seed, progress=False
        )
        print(ensemble.report, flush=True)
        save_knowledge(ensemble.graph, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, report = compress(
            world.train,
            world.val,
            dim=dim,
            teachers=[load_knowledge(path, world.train)],
            metric=world.metric,
            seed=seed,
            progress=False,
            **setting,
        )
    print(report, flush=True)
    return model


class Family(NamedTuple):
    """A kind of table: how it is made, at which widths, and by which settings."""

    fit: Callable[[World, int, int, dict[str, Any]], Recommender]
    dims: tuple[int, ...]
    settings: tuple[dict[str, Any], ...]
    #: Widths at which settings are compared; others take those of the next of them.
    tuned: tuple[int, ...] = ()


def families(name: str) -> dict[str, Family]:
    """What is compared on a data set, by name."""
    large = name == "gowalla"
    weights = [(10.0, 30.0), (40.0, 10.0), (40.0, 30.0)]
    if not large:
        weights += [(2.0, 20.0), (5.0, 30.0), (10.0, 50.0), (40.0, 100.0)]
    batch = {"batch_size": 8192 if large else 2048}
    return {
        "ALS": Family(
            als,
            (20, 64, 156, 200) if large else (8, 20, 64, 78, 156, 200),
            tuple({"alpha": a, "regularization": r} for a, r in weights),
            (20,) if large else (20, 156),
        ),
        "BPR": Family(
            bpr,
            (20,) if large else (20, 64),
            tuple(
                {"lr": 0.005, "weight_decay": decay, "max_epochs": 25 if large else 60,
                 "evaluate_every": 5, "patience": 2, **batch}
                for decay in ((1e-4,) if large else (1e-4, 1e-3))
            ),
        ),
        "LightGCN": Family(
            lightgcn,
            (20,) if large else (20, 64),
            ({"lr": 0.01, "max_epochs": 15 if large else 24, "evaluate_every": 3, "patience": 3,
              **batch},),
        ),
        "Spectral": Family(
            spectral,
            (20, 64, 156, 200) if large else (8, 20, 64, 78, 156, 200),
            tuple({"power": p, "ridge": r} for p in (0.0, 0.25, 0.5) for r in (0.0, 0.05, 0.3)),
            (20, 64) if large else (),
        ),
        "Student": Family(
            student, (20, 64) if large else (8, 12, 20, 32, 64), ({},),
        ),
    }  # fmt: skip
