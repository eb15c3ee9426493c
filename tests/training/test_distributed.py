"""Two processes on one machine give what one gives: everything that is exported, in one go."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training import fits_on_processes
from tests.training.fits_on_processes import Fits

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch is built without"),
]

ROOT = Path(__file__).parents[2]

#: Largest difference of weights after a few steps of a learning rate of 0.01. All else is float64.
ROUNDING = {"float32": 1e-5, "bfloat16": 2e-2}

#: What differs by more than rounding, and why.
DIFFERS = {"drawn neighbours": "each process draws those of its own share"}


class Results:
    """Fits on one process, here, and on two."""

    def __init__(self, folder: Path) -> None:
        fits = Fits(folder, 1)
        for part in (fits.methods, fits.models, fits.losses, fits.gradients, fits.checkpoints):
            part()
        args = [sys.executable, fits_on_processes.__file__, str(folder), "2"]
        # What a surrounding launcher has set must not leak in.
        env = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE")}
        env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(args, env=env, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        fits.take_over(2)
        self.printed, self.one = done.stdout + done.stderr, fits.results
        first, second = (torch.load(folder / f"2-{rank}.pt", weights_only=True) for rank in (0, 1))
        self.written = first.pop("written"), second.pop("written")
        self.two = first, second

    def __iter__(self):
        return iter(self.one)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    with pytest.warns(UserWarning, match="the teacher is no better than its student"):
        return Results(tmp_path_factory.mktemp("processes"))


def difference(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    assert one.keys() == two.keys()
    return max((float((one[k].double() - two[k].double()).abs().max()) for k in one), default=0.0)


def test_two_processes_equal_one(results) -> None:
    """Weights, and every column of the history."""
    for name, one in results.one.items():
        two, near = results.two[0][name], ROUNDING.get(name, 1e-10)
        if name in DIFFERS:
            assert difference(one["state"], two["state"]) > 1e-5, name
            continue
        assert difference(one["state"], two["state"]) < near, name
        assert len(one["rows"]) == len(two["rows"]), name
        for a, b in zip(one["rows"], two["rows"], strict=True):
            assert b == pytest.approx(a, rel=max(near, 2e-7)), name  # columns are float32


def test_what_is_compared_learns_and_differs(results) -> None:
    """The comparison would see a step that is left out, or a share that counts twice."""
    for name, one in results.one.items():
        assert any(x.is_floating_point() and bool(x.any()) for x in one["state"].values()), name
    rows = results.one["RelaxedRankingDistillation"]["rows"]
    assert rows[0]["RelaxedRankingDistillation"] != rows[1]["RelaxedRankingDistillation"]
    assert difference(results.one["MF"]["state"], results.one["rows"]["state"]) > 1e-3


def test_both_processes_have_the_same_bits(results) -> None:
    first, second = results.two
    assert first.keys() == second.keys()
    for name, one in first.items():
        assert one["rows"] == second[name]["rows"], name
        assert difference(one["state"], second[name]["state"]) == 0, name


def test_a_run_goes_on_with_as_many_processes_to_the_same_bits(results) -> None:
    for found in (results.one, *results.two):
        assert difference(found["whole"]["state"], found["again"]["state"]) == 0
        assert found["whole"]["rows"] == found["again"]["rows"]


def test_a_run_goes_on_with_another_number_of_processes(results) -> None:
    for found in (results.one, *results.two):
        assert difference(found["whole"]["state"], found["taken over"]["state"]) < 1e-10
        for a, b in zip(found["whole"]["rows"], found["taken over"]["rows"], strict=True):
            assert b == pytest.approx(a, rel=2e-7)


def test_only_the_first_process_writes_checkpoints(results) -> None:
    expected = ["whole-2"] * 4 + ["again-2"] * 4 + ["stopped-1"] * 2
    assert results.written == (expected, [])


def test_nothing_is_printed(results) -> None:
    assert results.printed == ""
