"""Teacher -> knowledge on the graph, in memory and on disk."""

from pyg_kd.knowledge.extraction import extract_knowledge
from pyg_kd.knowledge.fingerprint import graph_fingerprint, model_fingerprint
from pyg_kd.knowledge.store import load_knowledge, save_knowledge

__all__ = [
    "extract_knowledge",
    "graph_fingerprint",
    "load_knowledge",
    "model_fingerprint",
    "save_knowledge",
]
