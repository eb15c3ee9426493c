"""How users of a trained model are folded in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy.typing as npt

from pyg_kd.retrieval.fold_in.encoder import encoder_of
from pyg_kd.retrieval.fold_in.fit import fit_fold_in
from pyg_kd.retrieval.fold_in.propagation import propagation_source
from pyg_kd.retrieval.fold_in.users import FoldIn
from pyg_kd.retrieval.tables import Table

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

    from pyg_kd.models import Recommender


def fit_fold_in_of(
    model: Recommender,
    graph: HeteroData,
    x_user: Table | npt.ArrayLike,
    x_item: Table | npt.ArrayLike,
    *,
    val: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    holdout_users: int = 2000,
    seed: int = 0,
) -> FoldIn:
    r""":func:`fit_fold_in` with all that a model and its graph have to offer.

    Args:
        model: A recommender whose score is an inner product.
        graph: Its training graph.
        x_user: Its user table, ``[U, d]``.
        x_item: Its item table, ``[I, d]``.
        val: As in :func:`fit_fold_in`.
        holdout_users: As in :func:`fit_fold_in`.
        seed: As in :func:`fit_fold_in`.

    Raises:
        ValueError: If sizes don't fit.
    """
    from pyg_kd.graph import interactions  # imports torch

    seen = interactions(graph).by_user()
    return fit_fold_in(
        x_item,
        seen.ptr.cpu().numpy(),
        seen.col.cpu().numpy(),
        x_user=x_user,
        encoder=encoder_of(model),
        source=propagation_source(model, graph),
        val=val,
        holdout_users=holdout_users,
        seed=seed,
    )
