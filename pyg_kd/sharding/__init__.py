"""Tables larger than a machine, spread over processes by TorchRec.

Inside of :func:`process_group`, or of a function that :func:`launch` calls,
:class:`ShardedMF` is a student or a teacher of which each process holds some rows, and
:class:`ShardedTrainer` trains it with the package's losses and methods. :func:`map_model` and
:func:`save_sharded_student` lead back to what needs no group of processes.
"""

from pyg_kd.sharding.export import map_model, save_sharded_student
from pyg_kd.sharding.model import ShardedMF
from pyg_kd.sharding.processes import ProcessFailed, launch, process_group
from pyg_kd.sharding.teacher import attach_teacher
from pyg_kd.sharding.trainer import ShardedTrainer

__all__ = [
    "ProcessFailed",
    "ShardedMF",
    "ShardedTrainer",
    "attach_teacher",
    "launch",
    "map_model",
    "process_group",
    "save_sharded_student",
]
