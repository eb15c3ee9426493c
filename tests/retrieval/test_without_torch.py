"""A bundle is served by processes that lack PyTorch, and in little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyg_kd.retrieval import TopKIndex
from pyg_kd.retrieval.bundle import save_index
from pyg_kd.retrieval.fold_in import FoldIn

ROOT = Path(__file__).parents[2]

#: All that is installed with the package but NumPy and safetensors.
BLOCKED = [
    *("torch", "torch_geometric", "scipy", "pandas", "networkx", "lightning_fabric", "tqdm"),
    *("pyarrow", "onnx", "faiss", "huggingface_hub", "matplotlib", "typing_extensions"),
]

BLOCK = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""

SERVE = """
import json, sys
from pyg_kd.retrieval import load_student
index = load_student(sys.argv[1])
users, items = ["u3", "u0"], ["i5", "i9", "i11"]
lists = [index.search(users, 5), index.search_history(items, 5)]
index.add_interactions("someone new", items)
lists.append(index.search(["someone new"], 5))
told = dict(line.split(":") for line in open("/proc/self/status"))
print(json.dumps({
    "lists": [[part.tolist() for part in pair] for pair in lists],
    "megabytes": int(told["VmHWM"].split()[0]) / 1024,
    "loaded": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""


def citeulike_size(dtype: str) -> TopKIndex:
    """As many users, items and interactions as CiteULike has, of a student of width 20."""
    rng = np.random.default_rng(0)
    num_users, num_items, num_seen = 5220, 25_182, 115_142
    ptr = np.zeros(num_users + 1, np.int64)
    ptr[1:] = np.cumsum(rng.multinomial(num_seen, np.full(num_users, 1 / num_users)))
    x_user, x_item = (rng.normal(size=(n, 20)).astype(np.float32) for n in (num_users, num_items))
    index = TopKIndex(
        x_user,
        x_item,
        seen=(ptr, rng.integers(0, num_items, num_seen)),
        user_ids=[f"u{row}" for row in range(num_users)],
        item_ids=[f"i{row}" for row in range(num_items)],
        dtype=dtype,
    )
    arrays = {"root": np.eye(20)}
    fold_in = FoldIn("ridge", index.x_item, arrays=arrays)
    return TopKIndex(
        index.x_user,
        index.x_item,
        seen=index.seen,
        user_ids=index.users,
        item_ids=index.items,
        fold_in=fold_in,
    )


def served(python: str, code: str, bundle: Path) -> dict[str, Any]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [python, "-c", code, str(bundle)], env=env, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def expected(index: TopKIndex) -> list[Any]:
    pairs = [index.search(["u3", "u0"], 5), index.search_history(["i5", "i9", "i11"], 5)]
    return [[part.tolist() for part in pair] for pair in (*pairs, pairs[1])]


def same_lists(found: list[Any], wanted: list[Any]) -> bool:
    """The same items; scores may differ in their last digits between builds of NumPy."""
    return all(
        one[0] == other[0] and np.allclose(one[1], other[1], rtol=1e-4)
        for one, other in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_without_what_is_not_needed(tmp_path, dtype):
    index = citeulike_size(dtype)
    save_index(index, tmp_path)
    found = served(sys.executable, BLOCK + SERVE, tmp_path)
    assert same_lists(found["lists"], expected(index))
    assert not {*BLOCKED} & {*found["loaded"]}
    assert found["megabytes"] < 150


def test_nothing_is_loaded_though_it_is_there(tmp_path):
    save_index(citeulike_size("float32"), tmp_path)
    found = served(sys.executable, SERVE, tmp_path)
    assert not {*BLOCKED} & {*found["loaded"]}


def test_modules_are_blocked():
    with pytest.raises(AssertionError, match="No module named 'torch'"):
        served(sys.executable, f"{BLOCK}import torch", Path())


@pytest.mark.slow
def test_an_environment_with_numpy_and_safetensors_alone(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt")]
    run = subprocess.run(
        [*install, "numpy", "safetensors"], capture_output=True, text=True, timeout=300
    )
    if run.returncode:
        pytest.skip(f"packages could not be fetched: {run.stderr.strip()[-200:]}")
    index = citeulike_size("int8")
    save_index(index, tmp_path / "bundle")
    found = served(python, SERVE, tmp_path / "bundle")
    assert same_lists(found["lists"], expected(index))
    assert found["megabytes"] < 150
    with pytest.raises(AssertionError, match="No module named 'torch'"):
        served(python, "import torch", Path())
