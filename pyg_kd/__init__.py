"""Knowledge distillation for graph recommenders in PyTorch Geometric.

A wide teacher is trained once, its knowledge is written onto the user-item graph, and a narrow
student learns from the data and from that knowledge. With the three graphs of a split:

    >>> from pyg_kd import RelaxedRankingDistillation, Trainer, evaluate, extract_knowledge
    >>> from pyg_kd.datasets import SyntheticInteractions
    >>> from pyg_kd.models import LightGCN
    >>> from pyg_kd.transforms import UserSplit
    >>> data = SyntheticInteractions(num_users=200, num_items=100, num_edges=4_000)[0]
    >>> train, val, test = UserSplit(seed=0)(data)

it takes five lines:

    >>> trainer, teacher = Trainer(max_epochs=2, progress=False), LightGCN(train, dim=64)
    >>> history = trainer.fit(teacher, train, val_data=val)
    >>> graph, student = extract_knowledge(teacher, train), LightGCN(train, dim=8)
    >>> history = trainer.fit(student, graph, distillations=[(RelaxedRankingDistillation(), 0.1)])
    >>> metrics = evaluate(student, graph, test, k=20)  # {"recall@20": ..., "ndcg@20": ...}

``compress(train, val, dim=8)`` does all of it, with teachers and a method of its own choice. It,
the methods, ``Trainer``, ``evaluate`` and ``extract_knowledge`` are names of this package. The
rest is found in

    datasets     files, tables and arrays to graphs
    transforms   any graph to a user-item graph; filters and splits
    models       teachers and students
    knowledge    what a teacher knows, on the graph and in files
    distill      the methods, and the base class of your own
    training     the loop, base losses, histories
    evaluation   full ranking, sampled ranking, paired tests
    retrieval    serving a student: an index without PyTorch, bundles, a service
    sharding     tables larger than a machine, on several processes
    study        studies that rerun, ablations, tuning, simulated experiments
    cli          the command line: pyg-kd --help
    metrics      metrics of rankings
    loader       mini-batches, for loops of your own
    functional   the operations underneath
    shards       files in parts, written by several processes or on Ray Data

Start with ``docs/index.md`` in the repository: a table of the methods with what each needs and
which weight to try first, tutorials, results. ``help(pyg_kd.distill)`` and the like tell more.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyg_kd import cli as cli
    from pyg_kd import datasets as datasets
    from pyg_kd import distill as distill
    from pyg_kd import evaluation as evaluation
    from pyg_kd import functional as functional
    from pyg_kd import knowledge as knowledge
    from pyg_kd import loader as loader
    from pyg_kd import metrics as metrics
    from pyg_kd import models as models
    from pyg_kd import retrieval as retrieval
    from pyg_kd import sharding as sharding
    from pyg_kd import shards as shards
    from pyg_kd import study as study
    from pyg_kd import training as training
    from pyg_kd import transforms as transforms
    from pyg_kd.distill import (
        CollaborativeDistillation,
        ConsensusLearning,
        Distillation,
        DistillationExperts,
        DualCorrection,
        FrequencyDistillation,
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
    from pyg_kd.evaluation import evaluate
    from pyg_kd.knowledge import extract_knowledge
    from pyg_kd.training import Trainer, compress

__version__: str  # read when asked for

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
    "Trainer",
    "compress",
    "evaluate",
    "extract_knowledge",
    "__version__",
]

_ROOMS = ("cli", "datasets", "distill", "evaluation", "functional", "knowledge", "loader",
          "metrics", "models", "retrieval", "sharding", "shards", "study", "training",
          "transforms")  # fmt: skip

#: Where the names come from that are not methods.
_HOMES = {
    "Trainer": "training",
    "compress": "training",
    "evaluate": "evaluation",
    "extract_knowledge": "knowledge",
}

if not TYPE_CHECKING:  # a type checker would take every misspelt name for a good one

    def __getattr__(name: str) -> object:
        """Import what is asked for: importing the package alone loads nothing, not even PyTorch."""
        if name in _ROOMS:
            return import_module(f"pyg_kd.{name}")
        if name not in __all__:
            raise AttributeError(f"module 'pyg_kd' has no attribute {name!r}")
        if name == "__version__":
            found = _installed_version()
        else:
            found = getattr(import_module(f"pyg_kd.{_HOMES.get(name, 'distill')}"), name)
        globals()[name] = found
        return found


def _installed_version() -> str:
    """What the installed package was built as: the tag, or what came after it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("pyg_kd")
    except PackageNotFoundError:  # a folder of sources on the path
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
