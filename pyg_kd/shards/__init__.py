"""Long work in parts: files with digests, made by several processes, continued after a crash.

Knows nothing of what the parts hold. Needs no PyTorch.
"""

from pyg_kd.shards.manifest import Manifest, ShardError, open_shards
from pyg_kd.shards.parts import Job, Part, parts_of
from pyg_kd.shards.work import run_job

__all__ = ["Job", "Manifest", "Part", "ShardError", "open_shards", "parts_of", "run_job"]
