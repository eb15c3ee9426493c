"""How many processes a run takes."""

from __future__ import annotations

import pytest

from pyg_kd.training.processes import num_machines


@pytest.mark.parametrize(("total", "here", "expected"), [("2", "2", 1), ("8", "2", 4)])
def test_machines_of_torchrun(monkeypatch, total: str, here: str, expected: int) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", total)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
    assert num_machines() == 1
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert num_machines() == expected
