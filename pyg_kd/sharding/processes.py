"""The processes that tables lie on: those that ``torchrun`` started, or some of this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import torch
from torch import distributed as dist
from torch.distributed import FileStore, HashStore  # type: ignore[attr-defined]

from pyg_kd.checks import require_choice, require_count
from pyg_kd.launchers import end_with_launcher

T = TypeVar("T")

Accelerator = Literal["auto", "cpu", "cuda"]
ACCELERATORS: tuple[Accelerator, ...] = get_args(Accelerator)

#: What processes exchange tensors by, by where these lie.
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}

#: Seconds after an error in which a process that was ended may turn out to be its cause.
GRACE = 1.0


class ProcessFailed(RuntimeError):
    """A process ended with an error, which the message tells; all others were ended."""


@contextmanager
def process_group(accelerator: Accelerator = "auto") -> Iterator[torch.device]:
    r"""The processes that ``torchrun`` started, or this one alone; inside, tables can be sharded.

    With GPUs every process takes the one of its ``LOCAL_RANK`` and they exchange rows by NCCL,
    without by Gloo. A process ends itself when the ``torchrun`` that started it is gone. A group
    that exists already is used, and left as it is.

    Args:
        accelerator: ``"cpu"``, ``"cuda"``, or ``"auto"`` for GPUs where there are some.

    Returns:
        A context manager, which gives the device of this process.

    Raises:
        ValueError: If ``accelerator`` is unknown, or CUDA is asked for where there is none.

    Example:
        >>> with process_group("cpu") as device:
        ...     dist.get_world_size()
        1
    """
    device = _device(accelerator)
    if dist.is_initialized():
        yield device
        return
    if dist.is_torchelastic_launched():
        end_with_launcher()
        dist.init_process_group(BACKENDS[device.type])
    else:
        dist.init_process_group(BACKENDS[device.type], store=HashStore(), rank=0, world_size=1)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def launch(
    function: Callable[..., T],
    *args: Any,
    num_processes: int = 2,
    num_threads: int | None = None,
    accelerator: Accelerator = "auto",
) -> T:
    r"""Call a function in some processes of this machine, which form a group.

    Several machines, or processes that are started again when they fail, take ``torchrun``. No
    process outlives the one that calls this, however that ends, and none outlives another that
    failed.

    Args:
        function: A function of a module, which the processes import. A script calls this under
            ``if __name__ == "__main__"``.
        *args: Its arguments, which are pickled.
        num_processes: Number of processes.
        num_threads: PyTorch's threads in each; by default the cores are divided up.
        accelerator: As in :func:`process_group`.

    Returns:
        What it returned in the first process.

    Raises:
        ProcessFailed: If it raised in one of them, or one was ended from outside.
        ValueError: If an option is out of range.
    """
    require_count(num_processes=num_processes)
    if num_threads is None:
        num_threads = max(1, (os.cpu_count() or 1) // num_processes)
    require_count(num_threads=num_threads)
    _device(accelerator)
    context = _context()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        ends: dict[Any, tuple[int, Any]] = {}
        for rank in range(num_processes):
            reader, writer = context.Pipe(duplex=False)
            place = Place(rank, num_processes, num_threads, folder, accelerator)
            process = context.Process(target=_main, args=(function, args, place, writer))
            process.daemon = True
            process.start()
            running.callback(_end, process)
            writer.close()
            ends[reader] = rank, process
        found: T = _result(ends)
        return found


class Place(NamedTuple):
    """Where a process stands among those of its group."""

    rank: int
    num_processes: int
    num_threads: int
    folder: str
    accelerator: Accelerator


def _context() -> Any:
    """Processes forked from one that has imported the package, where the system can do that."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pyg_kd.sharding"])
    return context


def _main(
    function: Callable[..., object], args: tuple[Any, ...], place: Place, writer: Connection
) -> None:
    """What a process does."""
    end_with_launcher()
    torch.set_num_threads(place.num_threads)
    os.environ.update(LOCAL_RANK=str(place.rank), LOCAL_WORLD_SIZE=str(place.num_processes))
    try:
        store = FileStore(str(Path(place.folder, "store")), place.num_processes)
        backend = BACKENDS[_device(place.accelerator).type]
        dist.init_process_group(
            backend, store=store, rank=place.rank, world_size=place.num_processes
        )
        value = function(*args)
        dist.barrier()
        dist.destroy_process_group()
        _send(writer, None, value if place.rank == 0 else None)
    except BaseException as error:
        told = "".join(traceback.format_exception_only(error)).strip()
        _send(writer, told, traceback.format_exc())
        os._exit(1)  # communication that still waits for others would keep it from ending


def _send(writer: Connection, *told: object) -> None:
    # As bytes: else tensors would be left in memory that ends with this process.
    writer.send_bytes(pickle.dumps(told))
    writer.close()


def _result(ends: dict[Any, tuple[int, Any]]) -> Any:
    """What the first process returned; raises the first error, or who was ended from outside."""
    first, failed = None, None
    # Who is left alone fails as well, and may be heard before the end of the other is.
    while ends and (ready := wait(list(ends), None if failed is None else GRACE)):
        for reader in ready:
            rank, process = ends.pop(reader)
            connection: Any = reader
            try:
                told, value = pickle.loads(connection.recv_bytes())
            except EOFError:
                process.join()
                raise ProcessFailed(
                    f"process {rank} was ended from outside, with code {process.exitcode}"
                ) from None
            if told is not None and failed is None:
                failed = ProcessFailed(f"process {rank} failed: {told}\n\n{value}")
            first = value if rank == 0 else first
    if failed is not None:
        raise failed
    return first


def _end(process: Any) -> None:
    process.kill()
    process.join()


def _device(accelerator: Accelerator) -> torch.device:
    require_choice(ACCELERATORS, accelerator=accelerator)
    found = torch.cuda.is_available()
    if accelerator == "cuda" and not found:
        raise ValueError("'accelerator' is 'cuda', but PyTorch finds no CUDA device")
    if found and accelerator != "cpu":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")
