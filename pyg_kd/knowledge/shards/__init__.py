"""Knowledge in shards: extracted by several processes, and read back."""

from pyg_kd.knowledge.shards.extract import extract_shards
from pyg_kd.knowledge.shards.load import load_shards

__all__ = ["extract_shards", "load_shards"]
