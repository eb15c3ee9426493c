"""Lists of many users in files, made by several processes. Needs ``pyarrow``, not PyTorch."""

from pyg_kd.retrieval.shards.reading import ListShard, read_list_shards
from pyg_kd.retrieval.shards.writing import write_list_shards

__all__ = ["ListShard", "read_list_shards", "write_list_shards"]
