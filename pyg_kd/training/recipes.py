"""Settings that were found to work, under a name, for all who train such a model."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch_geometric.data import HeteroData

from pyg_kd.graph import interactions
from pyg_kd.models.lightgcn import LightGCN
from pyg_kd.models.spectral import start_from_spectrum
from pyg_kd.training.catalogue_softmax import CatalogueSoftmax
from pyg_kd.training.trainer import Trainer

#: Users of a step at most, and the least steps of an epoch.
USERS, STEPS = 1_024, 8


#: Options of the :class:`LightGCN` of :func:`lightgcn_teacher`.
LIGHTGCN: dict[str, Any] = {"num_layers": 2, "normalize": True, "popularity": 0.1}


def lightgcn_teacher(
    data: HeteroData, *, dim: int = 128, seed: int = 0, **options: Any
) -> tuple[LightGCN, Trainer]:
    r"""A :class:`~pyg_kd.models.LightGCN` for users of many items, and what trains it fast.

    It starts from the graph's singular vectors (:func:`spectral_embeddings`), learns by
    :class:`CatalogueSoftmax` without each user's own items in the denominator, at a learning rate
    that warms up and falls on a cosine, and serves cosines times the tenth root of an item's
    popularity. Every step propagates over the whole graph, so that steps are few and large: 30 an
    epoch on Gowalla, of 1,024 users with all of their items.

    It is chosen on validation targets of users of all kinds
    (``UserSplit(val=0.2, val_users=0.1)``): without the popularity it was ahead on Gowalla's users
    of 24 items or more, and behind on the others. A width of 64 takes half of the time; there,
    Recall@20 is 3 % lower on Gowalla and 4 % on CiteULike, and the same on MovieLens-100K.

    Args:
        data: The training graph.
        dim: Width of the embeddings.
        seed: Seed of the start and of training.
        options: Options of the :class:`Trainer`, over those of the recipe.

    Returns:
        The model, not yet trained, and its trainer.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.transforms import UserSplit
        >>> data = SyntheticInteractions(None, num_users=60, num_items=40, num_edges=600)[0]
        >>> train, val, _ = UserSplit(seed=0)(data)
        >>> teacher, trainer = lightgcn_teacher(train, dim=8, max_epochs=4, progress=False)
        >>> trainer.fit(teacher, train, val_data=val)
        History(4 epochs, best_epoch=3)
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = start_from_spectrum(LightGCN(data, dim, **LIGHTGCN), data)
    recipe = {**lightgcn_training(data), "loss": CatalogueSoftmax(**lightgcn_loss(data))}
    return model, Trainer(**{**recipe, "patience": None, "seed": seed, **options})


def lightgcn_training(data: HeteroData) -> dict[str, Any]:
    """How :func:`lightgcn_teacher` trains, but for its loss: options of the :class:`Trainer`."""
    return {
        "batch_by": "user",
        "batch_size": max(min(USERS, math.ceil(interactions(data).num_users / STEPS)), 1),
        "lr": 0.02,
        "schedule": "cosine",
        "warmup": 0.05,
        "max_epochs": 24,
        "evaluate_every": 4,
    }


def lightgcn_loss(data: HeteroData) -> dict[str, Any]:
    """Options of :class:`CatalogueSoftmax` for :func:`lightgcn_teacher`."""
    return {"temperature": softmax_temperature(data), "balance": 0.5}


def softmax_temperature(data: HeteroData) -> float:
    r"""A temperature for the softmax of cosines over the catalogue of a graph.

    .. math::
        \tau = \frac{2}{3} \Big/ \log \frac{|I|}{\bar n}

    with :math:`\bar n` the mean number of a user's items. A cosine has to lift these items above
    the others by about that logarithm, and no further. It comes to 0.21 on MovieLens-100K, where
    0.2 was the best of 0.1 to 0.3 on validation targets, and to 0.09 on Gowalla.

    Args:
        data: The training graph.

    Returns:
        :math:`\tau`, two thirds at most.

    Example:
        >>> data = HeteroData()
        >>> data["user"].num_nodes, data["item"].num_nodes = 2, 2_000
        >>> data["user", "interacts", "item"].edge_index = torch.tensor([[0, 1], [0, 1]])
        >>> round(softmax_temperature(data), 4)
        0.0877
    """
    _, num_users, num_items = interactions(data)
    mean = len(interactions(data).by_user().col) / max(num_users, 1)
    return 2 / 3 / max(math.log(num_items / max(mean, 1e-9)), 1.0)
