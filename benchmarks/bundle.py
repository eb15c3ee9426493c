"""What a process pays to serve a bundle: seconds to import and load it, memory, bytes on the disk.

Every figure is the median of several processes that are started for it, so that nothing is
imported or mapped before. Files are in the page cache, as they are when a service is started anew.
Tables are random: time and memory depend on their sizes alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent

#: Users, items, interactions and width.
SIZES = {
    "CiteULike": (5220, 25_182, 115_142, 20),
    "Gowalla": (29_858, 40_981, 810_128, 64),
    "a million users": (1_000_000, 100_000, 10_000_000, 64),
}

LOAD = """
import json, sys, time
begin = time.perf_counter()
from pyg_kd.retrieval import load_student
imported = time.perf_counter()
index = load_student(sys.argv[1], **json.loads(sys.argv[2]))
loaded = time.perf_counter()
index.search(["user-00000003"], 20)
searched = time.perf_counter()
"""

IMPORT = """
import json, sys, time
begin = time.perf_counter()
import {module}
print(json.dumps({{"import s": time.perf_counter() - begin, **memory()}}))
"""

MEMORY = """
def memory():
    told = dict(line.split(":") for line in open("/proc/self/status"))
    megabytes = {name: int(told[name].split()[0]) / 1024 for name in ("VmHWM", "RssAnon")}
    return {"peak MB": megabytes["VmHWM"], "own MB": megabytes["RssAnon"]}
"""

REPORT = """
print(json.dumps({
    "import s": imported - begin, "load s": loaded - imported, "first list s": searched - loaded,
    "torch": "torch" in sys.modules, **memory(),
}))
"""


def run(code: str, *arguments: str) -> dict[str, Any]:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MEMORY + code, *arguments]
    output = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(output)
    return found


def medians(runs: int, code: str, *arguments: str) -> dict[str, float]:
    found = [run(code, *arguments) for _ in range(runs)]
    return {name: round(statistics.median(float(f[name]) for f in found), 4) for name in found[0]}


def save(folder: str, size: str, dtype: str) -> int:
    """Write a bundle of that size, with strings for ids; its bytes."""
    from pyg_kd.retrieval import TopKIndex, save_index

    num_users, num_items, num_seen, dim = SIZES[size]
    rng = np.random.default_rng(0)
    ptr = np.zeros(num_users + 1, np.int64)
    np.cumsum(rng.multinomial(num_seen, np.full(num_users, 1 / num_users)), out=ptr[1:])
    index = TopKIndex(
        rng.standard_normal((num_users, dim), np.float32),
        rng.standard_normal((num_items, dim), np.float32),
        seen=(ptr, rng.integers(0, num_items, num_seen, dtype=np.int32)),
        user_ids=[f"user-{row:08d}" for row in range(num_users)],
        item_ids=[f"item-{row:08d}" for row in range(num_items)],
        dtype=dtype,
    )
    save_index(index, folder)
    return sum(path.stat().st_size for path in Path(folder).iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=[*SIZES])
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    for module in ("numpy", "pyg_kd.retrieval", "torch", "torch, torch_geometric"):
        rows[f"import {module}"] = medians(args.runs, IMPORT.format(module=module))
    ways = {"": {}, ", not verified": {"verify": False}, ", not mapped": {"mmap": False}}
    for size in args.sizes:
        for dtype in ("float32", "int8"):
            with TemporaryDirectory() as folder:
                size_bytes = save(folder, size, dtype)
                for name, options in ways.items():
                    row = medians(args.runs, LOAD + REPORT, folder, json.dumps(options))
                    assert not row.pop("torch")
                    rows[f"{size}, {dtype}{name}"] = {"bytes": size_bytes, **row}
    import report  # imports PyTorch, which takes longer than all of the above

    header = ["row", "import s", "load s", "first list s", "peak MB", "own MB", "MB on disk"]
    report.table(
        header,
        [
            [name, *(row.get(h, "-") for h in header[1:-1]), row.get("bytes", 0) / 1e6 or "-"]
            for name, row in rows.items()
        ],
    )
    report.write("bundle", {"sizes": {s: SIZES[s] for s in args.sizes}, "rows": rows})


if __name__ == "__main__":
    main()
