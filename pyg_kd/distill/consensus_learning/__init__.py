"""ConCF: the method, and the scores of several heads."""

from pyg_kd.distill.consensus_learning.method import ConsensusLearning

__all__ = ["ConsensusLearning"]
