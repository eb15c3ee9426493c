"""Every tensor is made where the others are: by reading the code, and by running it elsewhere."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyg_kd

#: Factories whose result is on the CPU unless told otherwise.
FACTORIES = {
    "arange", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "randperm",
    "tensor", "zeros", "sparse_csr_tensor", "sparse_coo_tensor", "from_numpy", "Generator",
    "normal", "tril_indices", "triu_indices",
}  # fmt: skip

#: Where the CPU is meant: (file or folder, source of the call or "*"), reason.
ON_CPU = {
    ("datasets", "*"): "raw files are read on the CPU; a graph is moved as a whole",
    ("functional/kernels.py", "torch.sparse_csr_tensor([0, 1], [0], [1.0], size=(1, 1), "
     "dtype=torch.float32)"): "triggers the warning of the beta, at import",
    ("functional/kernels.py", "torch.sparse_csr_tensor(ptr, col, value, size, "
     "check_invariants=False)"): "is where its parts are",
    ("cli", "*"): "files are read on the CPU, and an index ranks there; the trainer moves a graph",
    ("training/als.py", "*"): "one draw for all devices: made on the CPU, then copied",
    ("transforms/attributes.py", "*"): "NumPy takes edges where they are on the CPU",
    ("transforms/split.py", "*"): "one order for all devices: drawn on the CPU, then moved",
    ("functional/row_tables.py", "torch.sparse_coo_tensor(rows.unsqueeze(0), grad.to(ctx.dtype), "
     "ctx.shape, check_invariants=False, is_coalesced=True)"): "is where its parts are",
    ("functional/sampling.py", "torch.from_numpy(coarse.argsort(kind='stable'))"): "the CPU's way",
    ("training/row_adam.py", "torch.from_numpy(rows)"): "rows of tables on the CPU",
    ("training/row_adam.py", "torch.from_numpy(place[ids].astype(np.int64))"): "the same",
    ("training/row_records.py", "*"): "tables on the CPU alone are records",
    ("training/exchange.py", "torch.sparse_coo_tensor(rows.unsqueeze(0), values, parameter.shape)"):
     "is where its parts are",
    ("study/records.py", "torch.from_numpy(table[n].to_numpy().copy())"): "read from a file",
    ("study/simulation/lists.py", "torch.from_numpy(found)"): "an index ranks on the CPU",
    ("models/gfcf.py", "torch.from_numpy(vectors.T.astype(np.float32))"): "singular vectors are "
    "computed on the CPU, then moved",
    ("models/vectors.py", "torch.from_numpy(np.array(value, 'f4'))"): "vectors from elsewhere are "
    "copied into the tables of a model, wherever these are",
}  # fmt: skip


def factory_calls(source: str) -> Iterator[str]:
    """Calls of factories without a device, those of parameters and under a generator aside."""
    tree = ast.parse(source)
    in_parameters = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.Call) and ast.unparse(outer.func).endswith("Parameter")
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, owner = node.func.attr, ast.unparse(node.func.value)
        has_device = any(k.arg == "device" for k in node.keywords)
        if name == "Generator":
            has_device = has_device or bool(node.args)
        named = has_device or id(node) in in_parameters
        if name in FACTORIES and owner == "torch" and not named:
            yield ast.unparse(node)


def matches(rule: tuple[str, str], path: str, call: str) -> bool:
    return path.startswith(rule[0]) and rule[1] in ("*", call)


def allowed(path: str, call: str) -> bool:
    return any(matches(rule, path, call) for rule in ON_CPU)


def test_every_factory_names_a_device() -> None:
    root = Path(pyg_kd.__file__).parent
    found = {
        (path.relative_to(root).as_posix(), call)
        for path in sorted(root.rglob("*.py"))
        for call in factory_calls(path.read_text())
    }
    assert sorted(pair for pair in found if not allowed(*pair)) == []
    used = {rule for rule in ON_CPU for pair in found if matches(rule, *pair)}
    assert used == set(ON_CPU)


def test_a_factory_without_device_is_found() -> None:
    source = "import torch\na = torch.zeros(3)\nb = torch.ones(3, device=a.device)\n"
    source += "c = torch.nn.Parameter(torch.empty(3))\nd = torch.Generator()\n"
    assert list(factory_calls(source)) == ["torch.zeros(3)", "torch.Generator()"]


def test_everything_runs_on_a_device_that_is_not_the_cpu() -> None:
    # A process of its own: registering a backend cannot be taken back.
    probe = Path(__file__).with_name("device_probe.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(probe)]
    root = Path(__file__).parents[2]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "skipped" not in result.stdout.splitlines()[-1]
