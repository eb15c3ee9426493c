"""A small table of interactions, and the command line run in this process."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import pytest
import torch

from pyg_kd.cli import main


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def write_table(path, seed=0, num_users=60, num_items=40, each=14):
    """Users like one of four kinds of items; ids are words and numbers, and there are times."""
    rng = np.random.default_rng(seed)
    pairs = set()
    for user in range(num_users):
        liked = rng.integers(0, num_items // 4, each) * 4 + user % 4
        any_item = rng.integers(0, num_items, each)
        items = np.where(rng.random(each) < 0.85, liked, any_item)
        pairs |= {(user, int(item)) for item in items}
    rows = [pair for pair in sorted(pairs)]
    times = rng.permutation(len(rows))
    lines = [f"u{u},{100 + i},{t}" for (u, i), t in zip(rows, times, strict=True)]
    path.write_text("user,item,time\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    """A CSV file with the columns user, item and time."""
    return write_table(tmp_path_factory.mktemp("table") / "interactions.csv")


@pytest.fixture
def run(capsys):
    """Run a command line in this process."""

    def call(*words):
        threads = torch.get_num_threads()
        try:
            code = main([str(word) for word in words])
        finally:
            torch.set_num_threads(threads)
        return Result(code, *capsys.readouterr())

    return call


QUICK = ["--no-progress", "--threads", 1, "--k", "5,10", "--epochs", 3]


@pytest.fixture(scope="session")
def distilled(table, tmp_path_factory):
    """A run of distill on the small table."""
    out = tmp_path_factory.mktemp("distilled") / "run"
    words = ["distill", table, "--out", out, "--teacher", "lightgcn", "--teacher-epochs", 4]
    words += ["--baseline-epochs", 3, *QUICK]
    threads = torch.get_num_threads()
    assert main([str(word) for word in words]) == 0
    torch.set_num_threads(threads)
    return out


@pytest.fixture(scope="session")
def trained(table, tmp_path_factory):
    """A run of train on the small table."""
    out = tmp_path_factory.mktemp("trained") / "run"
    threads = torch.get_num_threads()
    assert main([str(word) for word in ["train", table, "--out", out, *QUICK]]) == 0
    torch.set_num_threads(threads)
    return out
