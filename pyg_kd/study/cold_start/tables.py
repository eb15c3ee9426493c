"""How a model ranks for users, and ranks items, that came after its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice, require_count
from pyg_kd.datasets.graph import interaction_graph
from pyg_kd.evaluation import SliceTable, TargetRanks, target_ranks
from pyg_kd.evaluation.slice_table import ALL, Slice, make_slice
from pyg_kd.graph import Neighbors, interactions
from pyg_kd.metrics.ranking_task import ranking_task
from pyg_kd.models import Recommender
from pyg_kd.models.inference import inference
from pyg_kd.retrieval.fold_in import fit_fold_in_of, fit_item_fold_in
from pyg_kd.study.cold_start.split import ColdSplit, first_of
from pyg_kd.typing import INTERACTS, ITEM, USER

#: A model of the training graph of a split, or those of several seeds.
Models = Recommender | Sequence[Recommender]

WARM_COLD = ("warm", "cold")
Among = Literal["all", "cold"]
AMONG: tuple[Among, ...] = get_args(Among)
POPULARITY = "popularity"


def cold_start(
    model: Models,
    split: ColdSplit,
    *,
    reference: Models | None = None,
    shots: int = 5,
    features: Tensor | None = None,
    among: Among = "all",
    k: int = 20,
) -> SliceTable:
    r"""Recall of warm and cold items, for warm and cold users, in one ranking of all items.

    Cold users get vectors by fold-in (:func:`~pyg_kd.retrieval.fold_in.fit_fold_in_of`) from
    ``shots`` of their items, cold items (:func:`~pyg_kd.retrieval.fold_in.fit_item_fold_in`) from
    the users that the split shows of them, and else from their features. All items compete in
    each list, or the cold ones alone: between them popularity says nothing, and what is known of
    them has to tell them apart.

    Args:
        model: A model trained on ``split.train`` whose score is an inner product; of several
            seeds, a list.
        split: What :func:`cold_split` returned.
        reference: The teacher, trained on ``split.train`` too.
        shots: Items shown of a cold user.
        features: Of all items of the original graph, ``[I, F]``.
        among: Items that are ranked: ``"all"``, or the ``"cold"`` ones alone, against each other.
        k: Length of the lists.

    Returns:
        The slices ``"warm users, warm items"`` and so on; those that are ranked.

    Raises:
        TypeError: If a model has no vectors.
        ValueError: If a model is of another graph, ``shots`` exceeds what the split shows,
            nothing is known of a cold item, or ``among`` is unknown.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.models import MF
        >>> from pyg_kd.study.cold_start import cold_split
        >>> data = SyntheticInteractions(num_users=100, num_items=60, num_edges=2_000)[0]
        >>> split = cold_split(data, item_shots=3)
        >>> table = cold_start(MF(split.train, dim=4), split)
        >>> [row.name for row in table][3:]
        ['cold users, warm items', 'cold users, cold items']
    """
    _check_shots(split, shots)
    require_choice(AMONG, among=among)
    given = (split, shots, features, among, k)
    runs = [_ranks(one, *given) for one in _listed(model)]
    others = None if reference is None else [_ranks(one, *given) for one in _listed(reference)]
    first = 0 if among == "all" else split.num_items  # the number of the first item that is ranked
    cold_user = runs[0].user >= split.num_users
    cold_item = runs[0].item + first >= split.num_items
    slices: dict[str, Tensor | None] = {ALL: None}
    for user, users in enumerate(WARM_COLD):
        for item, items in enumerate(WARM_COLD):
            if items == "cold" or among == "all":
                inside = (cold_user == bool(user)) & (cold_item == bool(item))
                slices[f"{users} users, {items} items"] = inside
    rows = []
    for name, of in slices.items():
        beside = None if others is None else _mean(others, of)
        rows.append(make_slice(name, _mean(runs, of), beside))
    return SliceTable("warm and cold", f"recall@{k}", tuple(rows))


def k_shot(
    model: Models,
    split: ColdSplit,
    shots: Sequence[int] = (0, 1, 2, 3, 5, 10),
    *,
    reference: Models | None = None,
    k: int = 20,
) -> SliceTable:
    r"""Recall of new users' items by how many of them are known.

    The same users with the same targets at every number of shots; what the split may show of a
    user is never ranked for it, shown or not. Without an item, a user gets the mean vector of the
    trained ones. The last row ranks by popularity alone.

    Args:
        model: A model trained on ``split.train`` whose score is an inner product; of several
            seeds, a list.
        split: What :func:`cold_split` returned. Its cold items are neither ranked nor targets.
        shots: Numbers of items shown, at most the split's.
        reference: The teacher, trained on ``split.train`` too.
        k: Length of the lists.

    Returns:
        The slices ``"0 items"``, ``"1 item"`` and so on, and ``"popularity"``.

    Raises:
        TypeError: If a model has no vectors.
        ValueError: If a model is of another graph, or a number of shots exceeds what the split
            shows.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.models import MF
        >>> from pyg_kd.study.cold_start import cold_split
        >>> data = SyntheticInteractions(num_users=100, num_items=60, num_edges=2_000)[0]
        >>> split = cold_split(data, user_shots=5)
        >>> [row.name for row in k_shot(MF(split.train, dim=4), split, (0, 1, 5))]
        ['0 items', '1 item', '5 items', 'popularity']
    """
    for count in shots:
        require_count(0, shots=count)
        _check_shots(split, count)
    known, wanted = _new_users(split)
    values = {count: [] for count in shots}  # type: dict[int, list[Any]]
    others = {count: [] for count in shots}  # type: dict[int, list[Any]]
    for found, models in ((values, _listed(model)), (others, _listed(reference))):
        for one in models:
            x_user, x_item, fold_in = _fitted(one, split)
            for count in shots:
                vectors = _folded(fold_in, first_of(split.shown_items, count), x_user)
                new = Recommender.from_embeddings(known, vectors, x_item)
                found[count].append(target_ranks(new, known, wanted, k).recall()[0].numpy())
    rows: list[Slice] = []
    for count in shots:
        name = f"{count} item{'' if count == 1 else 's'}"
        other = np.mean(others[count], axis=0) if others[count] else None
        rows.append(make_slice(name, np.mean(values[count], axis=0), other))
    rows.append(make_slice(POPULARITY, _popular(split, known, wanted, k), None))
    return SliceTable("items known", f"recall@{k}", tuple(rows))


def _ranks(
    model: Recommender,
    split: ColdSplit,
    shots: int,
    features: Tensor | None,
    among: Among,
    k: int,
) -> TargetRanks:
    """The ranks of all targets, cold users and items with vectors of their own."""
    x_user, x_item, fold_in = _fitted(model, split)
    shown = first_of(split.shown_items, shots)
    new_users = _folded(fold_in, shown, x_user)
    new_items = _folded_items(x_user, x_item, split, features)
    known, wanted = _world(split, 0 if among == "all" else split.num_items)
    items = np.concatenate([x_item, new_items]) if among == "all" else new_items
    whole = Recommender.from_embeddings(known, np.concatenate([x_user, new_users]), items)
    return target_ranks(whole, known, wanted, k)


def _fitted(model: Recommender, split: ColdSplit) -> tuple[Any, Any, Any]:
    """The vectors of warm users and items, and how new users are folded in."""
    if not isinstance(model, Recommender) or not (model.latent and model.inner_product):
        raise TypeError(
            "'model' must be a Recommender whose score is an inner product of vectors "
            f"(got {type(model).__name__})"
        )
    model.check_data(split.train)
    with inference(model):
        x = {key: value.cpu().float().numpy() for key, value in model(split.train).items()}
    return x[USER], x[ITEM], fit_fold_in_of(model, split.train, x[USER], x[ITEM])


def _folded(fold_in: Any, shown: Neighbors, x_user: Any) -> Any:
    """The vectors of new users, the mean user's for one of whom nothing is known."""
    vectors = fold_in(shown.ptr.numpy(), shown.col.numpy())
    vectors[shown.degree.numpy() == 0] = x_user.mean(0)
    return vectors


def _folded_items(x_user: Any, x_item: Any, split: ColdSplit, features: Tensor | None) -> Any:
    """The vectors of cold items, from their users or else from their features."""
    by_item, shown = interactions(split.train).by_item(), split.shown_users
    given = None if features is None else features[split.item].cpu().numpy()
    fold_in = fit_item_fold_in(
        x_user,
        x_item,
        by_item.ptr.numpy(),
        by_item.col.numpy(),
        features=None if given is None else given[: split.num_items],
    )
    shown = first_of(shown, len(x_user))
    new = None if given is None else given[split.num_items :]
    return fold_in(shown.ptr.numpy(), shown.col.numpy(), new)


def _world(split: ColdSplit, first: int) -> tuple[HeteroData, HeteroData]:
    """The graph of all users and the items from one on with what is known, and with targets."""
    train = interactions(split.train).edge_index.cpu()
    shown, told = split.shown_items, split.shown_users
    edges = torch.cat(
        [
            train,
            torch.stack([shown.row + split.num_users, shown.col]),
            torch.stack([told.col, told.row + split.num_items]),
        ],
        dim=1,
    )
    shift = torch.tensor([[0], [first]], device="cpu")
    known, wanted = (of[:, of[1] >= first] - shift for of in (edges, split.targets))
    return _graphs(known, wanted, len(split.user), len(split.item) - first)


def _new_users(split: ColdSplit) -> tuple[HeteroData, HeteroData]:
    """The graph of the cold users and the warm items, and the same with targets."""
    shown = split.shown_items
    mine = (split.targets[0] >= split.num_users) & (split.targets[1] < split.num_items)
    targets = split.targets[:, mine]
    targets = torch.stack([targets[0] - split.num_users, targets[1]])
    edges = torch.stack([shown.row, shown.col])
    return _graphs(edges, targets, len(split.user) - split.num_users, split.num_items)


def _graphs(
    edges: Tensor, targets: Tensor, num_users: int, num_items: int
) -> tuple[HeteroData, HeteroData]:
    known, wanted = (interaction_graph(edges[0], edges[1], num_users, num_items) for _ in range(2))
    wanted[INTERACTS].edge_label_index = targets
    return known, wanted


def _popular(split: ColdSplit, known: HeteroData, wanted: HeteroData, k: int) -> Any:
    """Recall of the items that are the most popular in training."""
    task = ranking_task(known, wanted)
    degree = interactions(split.train).by_item().degree.float().cpu()
    ones = torch.ones(len(split.user) - split.num_users, 1, device="cpu")
    popular = Recommender.from_embeddings(known, ones, degree[:, None])
    return target_ranks(popular, known, wanted, min(k, task.num_items)).recall()[0].numpy()


def _mean(runs: list[TargetRanks], among: Tensor | None) -> Any:
    return np.mean([run.recall(among)[0].numpy() for run in runs], axis=0)


def _listed(models: Models | None) -> Sequence[Recommender]:
    if models is None:
        return []
    return [models] if isinstance(models, Recommender) else list(models)


def _check_shots(split: ColdSplit, shots: int) -> None:
    most = int(split.shown_items.degree.min())
    if shots > most:
        raise ValueError(f"'shots' must be at most what the split shows, {most} (got {shots})")
