"""No process outlives its launcher, which is killed without a chance to say so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

CHILD = "from pyg_kd.launchers import end_with_launcher as e; e(); print('up', flush=True); "
WAIT = "import time; time.sleep(60)"

LAUNCHERS = {
    "subprocess": f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD + WAIT!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
""",
    **{
        method: f"""
import multiprocessing, time
from pyg_kd.launchers import end_with_launcher

def work(ready):
    end_with_launcher()
    ready.set()
    time.sleep(60)

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    ready = context.Event()
    children = [context.Process(target=work, args=(ready,)) for _ in range(2)]
    for child in children:
        child.start()
    ready.wait()
    print(*(child.pid for child in children), flush=True)
    time.sleep(60)
"""
        for method in ("fork", "forkserver")
    },
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", LAUNCHERS)
def test_children_end_when_their_launcher_is_killed(kind, tmp_path) -> None:
    script = tmp_path / "launch.py"
    script.write_text(LAUNCHERS[kind])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    launcher = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert launcher.stdout is not None
    children = [int(pid) for pid in launcher.stdout.readline().split()]
    assert children and all(map(_runs, children))
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    launcher.stdout.close()
    end = time.monotonic() + 30
    while any(map(_runs, children)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(_runs, children))


def _runs(pid: int) -> bool:
    """Whether a process is there and has not ended; its parent may not have asked for it yet."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
