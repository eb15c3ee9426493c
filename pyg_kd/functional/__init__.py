"""Tensor mathematics that two rooms or more use.

What only one method or model uses lives in its own file or folder.
"""

from pyg_kd.functional.catalogue import catalogue_logsumexp
from pyg_kd.functional.edge_scores import edge_scores, list_scores
from pyg_kd.functional.experts import mixture_of_experts
from pyg_kd.functional.fake_quantize import fake_quantize
from pyg_kd.functional.list_likelihood import list_likelihood_loss
from pyg_kd.functional.losses import bpr_loss, softmax_loss
from pyg_kd.functional.propagate import Adjacency, normalized_adjacency, propagate
from pyg_kd.functional.ranking import rank_unseen
from pyg_kd.functional.sampling import UnseenItems, sample_unseen
from pyg_kd.functional.sparse import gather_rows
from pyg_kd.functional.topology import full_topology_loss, hierarchical_topology_loss
from pyg_kd.graph import Neighbors, interactions, sorted_neighbors

__all__ = [
    "Adjacency",
    "Neighbors",
    "UnseenItems",
    "bpr_loss",
    "catalogue_logsumexp",
    "edge_scores",
    "fake_quantize",
    "full_topology_loss",
    "gather_rows",
    "hierarchical_topology_loss",
    "interactions",
    "list_likelihood_loss",
    "list_scores",
    "mixture_of_experts",
    "normalized_adjacency",
    "propagate",
    "rank_unseen",
    "sample_unseen",
    "softmax_loss",
    "sorted_neighbors",
]
