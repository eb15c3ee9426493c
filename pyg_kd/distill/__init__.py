"""Distillation methods: modules that bind a loss to a graph with knowledge."""

from pyg_kd.distill.base import Distillation
from pyg_kd.distill.collaborative_distillation import CollaborativeDistillation
from pyg_kd.distill.consensus_learning import ConsensusLearning
from pyg_kd.distill.distillation_experts import DistillationExperts
from pyg_kd.distill.dual_correction import DualCorrection
from pyg_kd.distill.frequency_distillation import FrequencyDistillation
from pyg_kd.distill.het_comp import HetComp
from pyg_kd.distill.hint_regression import HintRegression
from pyg_kd.distill.item_side_ranking_regularization import ItemSideRankingRegularization
from pyg_kd.distill.personalized_hint_regression import PersonalizedHintRegression
from pyg_kd.distill.preference_consistent_distillation import PreferenceConsistentDistillation
from pyg_kd.distill.ranking_distillation import RankingDistillation
from pyg_kd.distill.rejuvenated_cross_entropy import RejuvenatedCrossEntropy
from pyg_kd.distill.relaxed_ranking_distillation import RelaxedRankingDistillation
from pyg_kd.distill.soft_label import SoftLabel
from pyg_kd.distill.topology_distillation import TopologyDistillation
from pyg_kd.distill.unbiased_distillation import UnbiasedDistillation

__all__ = [
    "CollaborativeDistillation",
    "ConsensusLearning",
    "Distillation",
    "DistillationExperts",
    "DualCorrection",
    "FrequencyDistillation",
    "HetComp",
    "HintRegression",
    "ItemSideRankingRegularization",
    "PersonalizedHintRegression",
    "PreferenceConsistentDistillation",
    "RankingDistillation",
    "RejuvenatedCrossEntropy",
    "RelaxedRankingDistillation",
    "SoftLabel",
    "TopologyDistillation",
    "UnbiasedDistillation",
]
