"""Vectors of users and items that came after training, from their interactions."""

from pyg_kd.retrieval.fold_in.encoder import encoder_of
from pyg_kd.retrieval.fold_in.fit import fit_fold_in
from pyg_kd.retrieval.fold_in.from_model import fit_fold_in_of
from pyg_kd.retrieval.fold_in.items import ItemFoldIn, fit_item_fold_in
from pyg_kd.retrieval.fold_in.propagation import propagation_source
from pyg_kd.retrieval.fold_in.users import FoldIn

__all__ = [
    "FoldIn",
    "ItemFoldIn",
    "encoder_of",
    "fit_fold_in",
    "fit_fold_in_of",
    "fit_item_fold_in",
    "propagation_source",
]
