"""How far two models agree: their lists, their spaces, and the gradients that shape them."""

from pyg_kd.metrics.agreement.alignment import cka
from pyg_kd.metrics.agreement.collapse import effective_rank, uniformity, variance_share
from pyg_kd.metrics.agreement.gradients import GradientPair, compare_gradients
from pyg_kd.metrics.agreement.lists import overlap_at_k, rank_biased_overlap
from pyg_kd.metrics.agreement.neighbourhoods import nearest, neighbourhood_agreement

__all__ = [
    "GradientPair",
    "cka",
    "compare_gradients",
    "effective_rank",
    "nearest",
    "neighbourhood_agreement",
    "overlap_at_k",
    "rank_biased_overlap",
    "uniformity",
    "variance_share",
]
