"""Knowledge of teachers: extracted onto a graph, saved and loaded."""

from pyg_kd.knowledge.attachment import attach_trajectories
from pyg_kd.knowledge.controls import control_knowledge, own_items_knowledge
from pyg_kd.knowledge.extraction import extract_knowledge
from pyg_kd.knowledge.fusion import fuse
from pyg_kd.knowledge.list_tables import read_lists
from pyg_kd.knowledge.listed import Listed
from pyg_kd.knowledge.popularity_teacher import popularity_knowledge
from pyg_kd.knowledge.requirements import graph_fingerprint, model_fingerprint
from pyg_kd.knowledge.self_teacher import self_knowledge
from pyg_kd.knowledge.shards import extract_shards, load_shards
from pyg_kd.knowledge.shuffling import shuffle_knowledge
from pyg_kd.knowledge.store import load_knowledge, save_knowledge
from pyg_kd.knowledge.topology import topology_graph
from pyg_kd.knowledge.trajectory import Trajectory, TrajectoryRecorder

__all__ = [
    "Listed",
    "Trajectory",
    "TrajectoryRecorder",
    "attach_trajectories",
    "control_knowledge",
    "extract_knowledge",
    "extract_shards",
    "fuse",
    "graph_fingerprint",
    "load_knowledge",
    "load_shards",
    "model_fingerprint",
    "own_items_knowledge",
    "popularity_knowledge",
    "read_lists",
    "save_knowledge",
    "self_knowledge",
    "shuffle_knowledge",
    "topology_graph",
]
