"""Base losses: what a recommender learns from the interactions themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice, require_positive
from pyg_kd.functional.losses import softmax_loss
from pyg_kd.functional.sparse import gather_rows
from pyg_kd.functional.triples import triple_loss
from pyg_kd.typing import ITEM, USER, Batch, XDict

Negatives = Literal["uniform", "in_batch", "both"]
NEGATIVES: tuple[str, ...] = get_args(Negatives)


class BPR(nn.Module):
    r"""Pairwise loss of `"BPR: Bayesian Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1205.2618>`_, summed over the batch.

    .. math::
        L = - \sum_{(u, p, n)} \log \sigma(s_{up} - s_{un})
    """

    row_wise = (USER, ITEM)

    def forward(self, x_dict: XDict, batch: Batch) -> Tensor:
        """The loss of the batch's triples."""
        return triple_loss(x_dict[USER], x_dict[ITEM], batch.user, batch.candidates)

    def __repr__(self) -> str:
        return "BPR()"


class SampledSoftmax(nn.Module):
    r"""Softmax cross-entropy against sampled items, summed over the batch.

    .. math::
        L = - \sum_{(u, p)} \log \frac{e^{\rho(u, p) / \tau}}
        {e^{\rho(u, p) / \tau} + \sum_{n \in N} e^{\rho(u, n) / \tau}}

    with :math:`\rho` the cosine, as in `"On the Effectiveness of Sampled Softmax Loss for Item
    Recommendation" <https://arxiv.org/abs/2201.02327>`_. All rows share the negatives
    :math:`N`; one that is the row's own positive is left out. In-batch negatives are drawn by
    popularity, which is corrected by subtracting its logarithm.

    Args:
        temperature: :math:`\tau`.
        num_negatives: Uniform negatives drawn for a batch.
        negatives: ``"uniform"`` (default), ``"in_batch"`` (the other positives), or ``"both"``.
        normalize: Score by the cosine (default), not by the inner product.
    """

    row_wise = (USER, ITEM)

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        num_negatives: int = 1024,
        negatives: Negatives = "uniform",
        normalize: bool = True,
    ) -> None:
        super().__init__()
        require_choice(NEGATIVES, negatives=negatives)
        require_positive(temperature=temperature, num_negatives=num_negatives)
        self.temperature, self.num_negatives = temperature, num_negatives
        self.negatives, self.normalize = negatives, normalize

    def rows_read(self, graph: HeteroData, batch: Batch) -> dict[str, Tensor | None]:
        """The rows that a batch reads; uniform negatives, drawn while it is computed, are any."""
        items = batch.whole.positive if self.negatives == "in_batch" else None
        return {USER: batch.user, ITEM: items}

    def forward(self, x_dict: XDict, batch: Batch) -> Tensor:
        """The loss of the batch's positives."""
        x_user, x_item = gather_rows(x_dict[USER], batch.user), x_dict[ITEM]
        item, correction = self._candidates(batch, x_item.size(0))
        x_positive, x_negative = gather_rows(x_item, batch.positive), gather_rows(x_item, item)
        if self.normalize:
            x_user, x_positive, x_negative = (
                normalize(x, dim=1) for x in (x_user, x_positive, x_negative)
            )
        x_user = x_user / self.temperature
        logits = x_user @ x_negative.t()
        if correction is not None:
            logits = logits - correction
        hit = item == batch.positive.unsqueeze(1)
        return softmax_loss((x_user * x_positive).sum(1), logits.masked_fill(hit, -torch.inf))

    def _candidates(self, batch: Batch, num_items: int) -> tuple[Tensor, Tensor | None]:
        """Shared negatives, and the log of how much more often than uniform each comes."""
        device = batch.positive.device
        uniform = batch.positive[:0]
        if self.negatives != "in_batch":
            uniform = torch.randint(num_items, (self.num_negatives,), device=device)
        if self.negatives == "uniform":
            return uniform, None
        positive = batch.whole.positive
        count = torch.bincount(positive, minlength=num_items)
        log_share = (count.to(torch.float) * (num_items / max(len(positive), 1))).log()
        correction = log_share[positive]
        zeros = correction.new_zeros(len(uniform))
        return torch.cat([uniform, positive]), torch.cat([zeros, correction])

    def __repr__(self) -> str:
        return (
            f"SampledSoftmax(temperature={self.temperature}, num_negatives={self.num_negatives}, "
            f"negatives={self.negatives!r}, normalize={self.normalize})"
        )


BASE_LOSSES: dict[str, Callable[[], nn.Module]] = {"bpr": BPR, "sampled_softmax": SampledSoftmax}

#: The name of the model's own objective.
OWN = "own"


def resolve_loss(loss: str | nn.Module) -> nn.Module | None:
    """The base loss by its name, or itself; ``None`` for the model's own."""
    if isinstance(loss, nn.Module):
        return loss
    if not isinstance(loss, str) or loss not in (*BASE_LOSSES, OWN):
        names = (*BASE_LOSSES, OWN)
        raise ValueError(f"'loss' must be one of {names} or a module (got {loss!r})")
    return None if loss == OWN else BASE_LOSSES[loss]()
