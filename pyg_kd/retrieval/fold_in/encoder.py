"""Students whose users are a function of their items, without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyg_kd.retrieval.fold_in.histories import Histories, weighted_sums
from pyg_kd.retrieval.tables import Float32, Table

if TYPE_CHECKING:
    from pyg_kd.models import Recommender

Array = npt.NDArray[Any]

#: The arrays of an encoder; ``dim`` is the width of the latent variables, ``h`` of hidden layers.
ENCODER = (
    "item_input",  # [I, h]
    "hidden_bias",  # [h]
    "latent_weight",  # [dim, h]
    "latent_bias",  # [dim]
    "output_weight",  # [h, dim]
    "output_bias",  # [h]
)


def encoder_of(model: Recommender) -> dict[str, Array] | None:
    r"""What a model needs to compute a user's vector from the user's items.

    Args:
        model: A recommender.

    Returns:
        The arrays of :class:`~pyg_kd.models.MultVAE`, float32; ``None`` for every other model:
        users of :class:`~pyg_kd.models.MF`, :class:`~pyg_kd.models.LightGCN` and
        :class:`~pyg_kd.models.ItemAE` have parameters of their own, and scores of
        :class:`~pyg_kd.models.EASE` and :class:`~pyg_kd.models.GFCF` are no inner products.
    """
    from pyg_kd.models import MultVAE  # imports torch

    if not isinstance(model, MultVAE):
        return None
    arrays = {
        "item_input": model.item_input,
        "hidden_bias": model.hidden_bias,
        "latent_weight": model.to_latent.weight[: model.dim],  # the other half is the variance
        "latent_bias": model.to_latent.bias[: model.dim],
        "output_weight": model.from_latent.weight,
        "output_bias": model.from_latent.bias,
    }
    # Copies: training may go on.
    return {name: x.detach().float().cpu().numpy().copy() for name, x in arrays.items()}


def check_encoder(arrays: Mapping[str, Array], num_items: int, dim: int) -> None:
    """Raise ``ValueError`` unless these are the arrays of an encoder of such a table."""
    if set(arrays) != set(ENCODER):
        raise ValueError(f"'encoder' must hold {[*ENCODER]} (got {[*arrays]})")
    hidden, latent = dim - 1, arrays["latent_bias"].size
    shapes = ((num_items, hidden), (hidden,), (latent, hidden), (latent,), (hidden, latent))
    for name, shape in zip(ENCODER, (*shapes, (hidden,)), strict=True):
        array = arrays[name]
        if array.shape != shape:
            raise ValueError(f"{name!r} must be {list(shape)} (got {list(array.shape)})")
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"{name!r} must be floating point and finite")


def encode(item_input: Table, arrays: Mapping[str, Array], histories: Histories) -> Float32:
    r"""Users as :class:`~pyg_kd.models.MultVAE` encodes them, float32 ``[n, h + 1]``.

    Where interactions have strengths, they take the place of the ones before a row is scaled to
    unit length.

    Args:
        item_input: The array of that name, as a table.
        arrays: All arrays of the encoder.
        histories: The items of ``n`` users.
    """
    weight = histories.weight
    if weight is None:
        length = np.sqrt(histories.degree)
    else:
        length = np.sqrt(np.bincount(histories.row, weight**2, len(histories.ptr) - 1))
    rows = weighted_sums(item_input, histories) / np.maximum(length, 1e-30)[:, None]
    hidden = np.tanh(rows.astype(np.float32) + arrays["hidden_bias"])
    latent = hidden @ arrays["latent_weight"].T + arrays["latent_bias"]
    decoded = np.tanh(latent @ arrays["output_weight"].T + arrays["output_bias"])
    ones = np.ones((len(decoded), 1), np.float32)
    return np.concatenate([decoded.astype(np.float32), ones], axis=1)
