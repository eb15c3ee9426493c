"""Knowledge distillation for graph recommenders in PyTorch Geometric."""

from importlib import import_module
from types import ModuleType

from pyg_kd.distill import (
    CollaborativeDistillation,
    ConsensusLearning,
    Distillation,
    DistillationExperts,
    DualCorrection,
    HetComp,
    HintRegression,
    ItemSideRankingRegularization,
    PersonalizedHintRegression,
    PreferenceConsistentDistillation,
    RankingDistillation,
    RejuvenatedCrossEntropy,
    RelaxedRankingDistillation,
    SoftLabel,
    TopologyDistillation,
    UnbiasedDistillation,
)

__version__ = "0.1.0.dev0"

#: Loaded when they are first named: ``pyg_kd.training`` brings more than a method needs.
_ROOMS = ("datasets", "evaluation", "functional", "knowledge", "loader", "metrics", "models",
          "training", "transforms")  # fmt: skip


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return import_module(f"pyg_kd.{name}")
    raise AttributeError(f"module 'pyg_kd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})


__all__ = [
    "CollaborativeDistillation",
    "ConsensusLearning",
    "Distillation",
    "DistillationExperts",
    "DualCorrection",
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
    "__version__",
]
