from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData

from pyg_kd.training.resume_key import describe, describe_callable, digest


def evaluator(k=10, offset=0.0):
    """Every call defines the function anew."""

    def inner(model, data, val_data, depth=3):
        return {"x": k + offset}

    return inner


class Evaluator:
    def __init__(self, k: int) -> None:
        self.k, self.calls = k, 0

    def __call__(self, model, data, val_data):
        self.calls += 1
        return {"x": float(self.k)}

    def method(self, model, data, val_data):
        return {"x": 1.0}


def test_the_same_evaluator_has_the_same_text():
    used = Evaluator(3)
    used(None, None, None)
    for first, second in (
        (evaluator(), evaluator()),
        (used, Evaluator(3)),
        (used.method, Evaluator(3).method),
        (partial(evaluator(), depth=5), partial(evaluator(), depth=5)),
        (len, len),
    ):
        assert describe_callable(first) == describe_callable(second)


def test_other_evaluators_have_other_texts():
    found = [
        evaluator(),
        evaluator(k=20),
        partial(evaluator(), depth=5),
        partial(evaluator(), depth=6),
        lambda *_: {"x": 0.5},
        lambda *_: {"x": 0.25},
        lambda *_: {"x": -0.25},
        lambda *_: {"y": 0.25},
        lambda *_: {"x": float(max(_))},
        lambda *_: {"x": float(min(_))},
        Evaluator(3),
        Evaluator(4),
        Evaluator(3).method,
        len,
        print,
    ]
    assert len({describe_callable(f) for f in found}) == len(found)


SCRIPT = """
from pyg_kd.training.resume_key import describe_callable
print(describe_callable(lambda *_: {"x": float(len(_) in {"a", "bc", "def", 3, None})}))
"""


@pytest.mark.slow
def test_the_text_is_the_same_in_every_process():
    texts = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_digest_tells_tensors_apart():
    x = torch.arange(6.0)
    found = [
        [("x", x)],
        [("y", x)],
        [("x", x + 1)],
        [("x", x.double())],
        [("x", x.view(2, 3))],
        [("x", x.to(torch.bfloat16))],
        [("x", x > 3)],
        [("x", x[:0])],
        [("x", x[3])],
        [("x", x), ("y", x)],
        [],
    ]
    assert len({digest(tensors) for tensors in found}) == len(found)
    assert digest([("x", x)]) == digest([("x", torch.arange(12.0)[:6].clone())])
    assert digest([("x", x.view(2, 3).t())]) == digest([("x", x.view(2, 3).t().contiguous())])
    data = HeteroData()
    data["user", "item"].edge_index = EdgeIndex([[0, 1], [1, 0]], sparse_size=(2, 2))
    assert len(digest([("edge_index", data["user", "item"].edge_index)])) == 64


class Printed(torch.nn.Module):
    """A module that prints its width and keeps the other options to itself."""

    def __init__(self, dim=32, m=3, transform=None) -> None:
        super().__init__()
        self.dim, self.m, self.transform = dim, m, transform

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


def test_options_whose_text_is_part_of_another_are_told() -> None:
    # "m=3" and "m=32" are parts of "dim=32", "m=3" one of "m=3.5".
    assert len({describe(Printed(m=m)) for m in (3, 32, 3.5)}) == 3
    assert describe(Printed()) == "Printed(dim=32) m=3 transform=None"


def test_functions_as_options_are_told_by_what_they_do() -> None:
    square = describe(Printed(transform=lambda v: v.square()))
    assert square == describe(Printed(transform=lambda v: v.square()))
    assert square != describe(Printed(transform=lambda v: v.abs()))
    assert describe(Printed(transform=partial(max, 1))) != describe(
        Printed(transform=partial(max, 2))
    )
