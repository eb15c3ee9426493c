from __future__ import annotations

import threading

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.models import MF
from pyg_kd.models.inference import inference, represent


def graph() -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 3, 2
    return data


def with_edge() -> HeteroData:
    data = graph()
    data["user", "interacts", "item"].edge_index = torch.tensor([[0], [1]])
    return data


def test_what_a_model_returns_is_returned():
    x_dict = {"user": torch.zeros(3, 4), "item": torch.ones(2, 4), "tag": None}
    assert represent(lambda data: x_dict, graph()) is x_dict


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        ((torch.zeros(3, 4), torch.zeros(2, 4)), TypeError, r"a dictionary .* \(got tuple\)"),
        ({"user": torch.zeros(3, 4)}, ValueError, r"no rep.* of 'item' \(got \['user'\]\)"),
        ({"user": [1.0], "item": torch.zeros(2, 4)}, TypeError, r"'user' must .* \(got list\)"),
        (
            {"user": torch.zeros(3, 4), "item": torch.zeros(3, 4)},
            ValueError,
            r"return 2 rep.* of 'item', \[2, d\] \(got \[3, 4\]\)",
        ),
        ({"user": torch.zeros(3), "item": torch.zeros(2, 4)}, ValueError, r"\(got \[3\]\)"),
        ({"user": torch.full((3, 4), torch.nan)}, ValueError, "'user' that are NaN"),
        ({1: None, "user": torch.zeros(3, 4)}, ValueError, r"of 'item' \(got \[1, 'user'\]\)"),
        ({"user": torch.eye(3).to_sparse()}, TypeError, r"'user' must be dense \(got torch.sp"),
    ],
)
def test_what_is_no_representation(returned, error, message):
    with pytest.raises(error, match=message):
        represent(lambda data: returned, graph())


def test_representations_on_another_device() -> None:
    x_dict = {"user": torch.zeros(3, 4), "item": torch.zeros(2, 4, device="meta")}
    with pytest.raises(ValueError, match=r"device of 'data', cpu \(got meta for 'item'\)"):
        represent(lambda data: x_dict, graph(), device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("model", "got"),
    [(MF, "the class MF"), (None, "NoneType"), (len, "builtin_function_or_method")],
)
def test_a_model_is_a_module(model, got: str) -> None:
    with pytest.raises(TypeError, match=rf"'model' must be a torch.nn.Module \(got {got}\)"):
        inference(model).__enter__()


def test_modes_come_back_once_all_threads_are_done() -> None:
    model = MF(with_edge(), dim=2)
    model.add_module("part", torch.nn.Dropout().eval())
    inside, first_left = threading.Event(), threading.Event()
    found = []

    def second() -> None:
        with inference(model):
            inside.set()
            first_left.wait(10)
            found.append((model.training, torch.is_grad_enabled()))

    thread = threading.Thread(target=second)
    with inference(model):
        thread.start()
        assert inside.wait(10)
    assert not model.training  # the second one is still inside
    first_left.set()
    thread.join()
    assert found == [(False, False)]
    assert model.training and not model.part.training


def test_modes_come_back_after_an_error_and_after_the_outermost() -> None:
    model = MF(with_edge(), dim=2)
    with pytest.raises(KeyError), inference(model):
        with inference(model):
            pass
        assert not model.training
        raise KeyError
    assert model.training
