"""What users import stays where it is."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

NAMES = {
    "pyg_kd": [
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
        "Trainer",
        "UnbiasedDistillation",
        "__version__",
        "compress",
        "evaluate",
        "extract_knowledge",
    ],
    "pyg_kd.datasets": [
        "AmazonBook",
        "CiteULike",
        "Gowalla",
        "LightGCNBenchmark",
        "MovieLens100K",
        "SyntheticInteractions",
        "Yelp2018",
        "from_interactions",
    ],
    "pyg_kd.distill": [
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
    ],
    "pyg_kd.evaluation": [
        "Comparison",
        "Leaderboard",
        "PerUser",
        "compare",
        "evaluate",
        "evaluate_sampled",
    ],
    "pyg_kd.functional": [
        "Adjacency",
        "Neighbors",
        "UnseenItems",
        "bpr_loss",
        "catalogue_logsumexp",
        "edge_scores",
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
    ],
    "pyg_kd.knowledge": [
        "Listed",
        "Trajectory",
        "TrajectoryRecorder",
        "attach_trajectories",
        "extract_knowledge",
        "extract_shards",
        "fuse",
        "graph_fingerprint",
        "load_knowledge",
        "load_shards",
        "model_fingerprint",
        "read_lists",
        "save_knowledge",
    ],
    "pyg_kd.loader": [
        "InteractionLoader",
        "LinkNeighborLoader",
        "NeighborLoader",
        "NeighborSampler",
        "sampling_graph",
        "triples",
    ],
    "pyg_kd.models": [
        "BSPM",
        "CML",
        "EASE",
        "GFCF",
        "ItemAE",
        "ItemKNN",
        "KernelRidge",
        "LightGCN",
        "MF",
        "MultVAE",
        "MultiBranch",
        "NGCF",
        "NeuMF",
        "QuantizationAware",
        "Recommender",
        "SLIM",
        "UserKNN",
    ],
    "pyg_kd.sharding": [
        "ProcessFailed",
        "ShardedMF",
        "ShardedTrainer",
        "attach_teacher",
        "launch",
        "map_model",
        "process_group",
        "save_sharded_student",
    ],
    "pyg_kd.training": [
        "AlternatingLeastSquares",
        "BPR",
        "CatalogueSoftmax",
        "CompressionReport",
        "Ensemble",
        "History",
        "SampledSoftmax",
        "Trainer",
        "TrainingDiverged",
        "compress",
        "lightgcn_teacher",
        "train_ensemble",
        "validate",
    ],
    "pyg_kd.retrieval": [
        "TopKIndex",
        "load_student",
        "save_student",
        "tables_at",
    ],
    "pyg_kd.retrieval.shards": ["ListShard", "read_list_shards", "write_list_shards"],
    "pyg_kd.transforms": ["KCore", "LeaveOneOut", "TemporalSplit", "UserItem", "UserSplit"],
}


@pytest.mark.parametrize("module", sorted(NAMES))
def test_public_names_stay(module: str) -> None:
    found = importlib.import_module(module)
    missing = [name for name in NAMES[module] if not hasattr(found, name)]
    assert not missing
    assert set(NAMES[module]) <= set(found.__all__)


def test_star_import() -> None:
    names: dict[str, object] = {}
    exec("from pyg_kd import *", names)
    assert set(NAMES["pyg_kd"]) <= set(names)


def test_type_checkers_see_every_top_level_name() -> None:
    """At run time the names are imported when first used; checkers and editors read these lines."""
    module = importlib.import_module("pyg_kd")
    tree = ast.parse(Path(str(module.__file__)).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        seen |= {alias.name: str(node.module) for alias in node.names}
    rooms = {name for name, home in seen.items() if home == "pyg_kd"}
    assert seen.keys() - rooms == set(module.__all__) - {"__version__"}
    for name in seen.keys() - rooms:
        assert getattr(module, name) is getattr(importlib.import_module(seen[name]), name)
    folders = {path.parent.name for path in Path(str(module.__file__)).parent.glob("*/__init__.py")}
    assert rooms == folders and rooms | set(module.__all__) <= set(dir(module))


def test_help_is_a_page() -> None:
    text = inspect.getdoc(importlib.import_module("pyg_kd")) or ""
    assert 20 < len(text.splitlines()) <= 50
    rooms = set(re.findall(r"^    (\w+) {3,}\S", text, re.MULTILINE))
    assert rooms == {path.parent.name for path in (ROOT / "pyg_kd").glob("*/__init__.py")}


def _imports_of_the_docs() -> list[tuple[str, str]]:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = set()
    for page in pages:
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("pyg_kd"):
                    found |= {(str(node.module), alias.name) for alias in node.names}
    return sorted(found)


@pytest.mark.parametrize(("module", "name"), _imports_of_the_docs())
def test_what_the_docs_import_exists(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)
