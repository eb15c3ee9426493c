"""The comparison of a GPU with the CPU: complete, and able to fail."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

import pyg_kd
from pyg_kd.distill import Distillation, HintRegression

ROOT = Path(__file__).parents[2]


@pytest.fixture
def check(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import cuda_check

    return cuda_check


@pytest.mark.slow
def test_every_method_gives_the_cpus_values(check, device):
    rows = list(check.compare_methods(device))
    exported = [getattr(pyg_kd, name) for name in pyg_kd.__all__]
    wanted = {
        found.__name__
        for found in exported
        if inspect.isclass(found) and issubclass(found, Distillation) and found is not Distillation
    }
    assert {row.name.split(",")[0] for row in rows} == wanted
    assert [str(row) for row in rows if row.difference > row.bound] == []


@pytest.mark.slow
@pytest.mark.parametrize("part", ["compare_models", "compare_training", "compare_rankings"])
def test_models_training_and_rankings_give_the_cpus_values(check, device, part):
    rows = list(getattr(check, part)(device))
    assert rows and [str(row) for row in rows if row.difference > row.bound] == []


def test_a_wrong_gradient_is_found(check, monkeypatch):
    runs = []

    class Wrong(HintRegression):
        def forward(self, x_dict, graph, batch):
            runs.append(1)
            return super().forward(x_dict, graph, batch) * (1 + 0.01 * len(runs))

    monkeypatch.setattr(check, "methods", lambda: [Wrong])
    (row,) = check.compare_methods("cpu")
    assert row.difference == pytest.approx(0.01 / 1.01, rel=1e-3)
    assert str(row).startswith("FAILED") and "Wrong" in str(row)


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.5], [1.0, 2.0], 0.25),
        ([0.0, -4.0], [0.0, 4.0], 2.0),
        ([1.0, float("nan")], [1.0, 2.0], float("inf")),
        ([], [], 0.0),
    ],
)
def test_difference(check, found, wanted, expected):
    assert check.difference(torch.tensor(found), torch.tensor(wanted)) == pytest.approx(expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_without_cuda_nothing_is_claimed(check, monkeypatch, tmp_path, capsys):
    target = tmp_path / "log"
    monkeypatch.setattr("sys.argv", ["cuda_check.py", "--out", str(target)])
    assert check.main() == 2 and not target.exists()
    assert "nothing was checked" in capsys.readouterr().err


def test_the_exit_code_tells(check, monkeypatch, capsys):
    row = check.Row("a method", 0.5, 0.1)
    for part in ("compare_methods", "compare_models", "compare_training", "compare_rankings"):
        monkeypatch.setattr(check, part, lambda device: [row])
    monkeypatch.setattr("sys.argv", ["cuda_check.py", "--device", "cpu"])
    assert check.main() == 1
    row.difference = 0.05
    assert check.main() == 0 and "ok" in capsys.readouterr().out


def test_the_log_names_date_and_versions(check):
    text = check.log([check.Row("a method", 0.5, 0.1)], "cpu")
    assert f"PyTorch {torch.__version__}" in text and pyg_kd.__version__ in text
    assert text.startswith("date     20") and "FAILED  5.00e-01 <= 1e-01  a method" in text
