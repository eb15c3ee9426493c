"""Vectors of users and items that came after training, from their interactions."""

from pyg_kd.retrieval.fold_in.encoder import encoder_of
from pyg_kd.retrieval.fold_in.users import FoldIn

__all__ = ["FoldIn", "encoder_of"]
