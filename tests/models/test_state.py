from __future__ import annotations

import copy
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch_geometric.data import HeteroData

from pyg_kd.knowledge import graph_fingerprint, model_fingerprint
from pyg_kd.models import MF, NGCF, LightGCN, MultiBranch
from pyg_kd.models.state import pack, unpack
from pyg_kd.training import Trainer


def graph(num_users: int = 4, num_items: int = 5) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    data["user", "rates", "item"].edge_index = torch.tensor([[0, 1, 2, 3, 3], [4, 2, 3, 0, 1]])
    return data


@pytest.mark.parametrize(("one", "other"), [(MF, LightGCN), (LightGCN, MF)])
def test_the_state_of_another_class(one, other) -> None:
    model, before = other(graph(), 3), None
    before = [p.detach().clone() for p in model.parameters()]
    state = one(graph(), 3).state_dict()
    message = f"the state was saved by {one.__name__}, the model is {other.__name__}"
    for module, found in (
        (model, state),
        (torch.nn.Sequential(model), {f"0.{name}": x for name, x in state.items()}),
    ):
        with pytest.raises(ValueError, match=message):
            module.load_state_dict(found)
    assert all(map(torch.equal, before, model.parameters()))  # nothing was copied
    state.pop("_extra_state")  # on purpose
    model.load_state_dict(state)
    assert all(torch.equal(x, state[name]) for name, x in model.named_parameters())


@pytest.mark.parametrize(
    ("model", "options", "others"),
    [
        (LightGCN, {"num_layers": 3}, {"num_layers": 2}),
        (NGCF, {"normalize": True}, {"normalize": False}),
        (MultiBranch, {"heads": ["bce"]}, {"heads": ["mse"]}),
    ],
)
def test_the_state_of_what_computes_something_else(model, options: dict, others: dict) -> None:
    state = model(graph(), 3, **options).state_dict()
    model(graph(), 3, **options, init_std=9.0).load_state_dict(state)
    (name, value), (_, own) = *options.items(), *others.items()
    message = re.escape(f"{model.__name__} with {name}={value}, the model has {name}={own}")
    with pytest.raises(ValueError, match=message):
        model(graph(), 3, **others).load_state_dict(state)


def fitted(data: HeteroData) -> MF:
    model = MF(data, 3)
    assert model.fitted_on is None
    Trainer(max_epochs=1, progress=False).fit(model, data)
    return model


def test_what_a_model_was_fitted_on_is_saved(tmp_path) -> None:
    data = graph()
    model = fitted(data)
    assert model.fitted_on == graph_fingerprint(data)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    for state in (
        torch.load(tmp_path / "model.pt", weights_only=True),
        load_file(tmp_path / "model.safetensors"),
        {name: x.clone() for name, x in model.state_dict().items()},
    ):
        again = MF(data, 3)
        again.load_state_dict(state)
        assert again.fitted_on == model.fitted_on
    assert copy.deepcopy(model).double().fitted_on == model.fitted_on


def test_states_of_one_model_have_one_size() -> None:
    data = graph()
    assert fitted(data).state_dict()["_extra_state"].shape == pack(MF(data, 3), None).shape


def test_a_state_without_a_name_says_nothing_of_its_graph() -> None:
    model = fitted(graph())
    state = MF(graph(), 3).state_dict()
    for told in (None, torch.zeros(3), torch.tensor([255], dtype=torch.uint8), {"of": "somebody"}):
        found = {name: x for name, x in state.items() if name != "_extra_state"}
        model.fitted_on = "0" * 64
        model.load_state_dict(found if told is None else {**found, "_extra_state": told})
        assert model.fitted_on is None
    assert unpack(torch.tensor(list(b"[1]"), dtype=torch.uint8)) == {}


def test_what_it_was_fitted_on_is_not_what_a_model_is() -> None:
    model = MF(graph(), 3)
    before = model_fingerprint(model)
    model.fitted_on = "0" * 64
    assert model_fingerprint(model) == before


def test_views_know_the_graph_of_their_model() -> None:
    data = graph()
    model = MultiBranch(data, 8, heads=("bpr", "mse"))
    Trainer(max_epochs=1, progress=False).fit(model, data)
    for view in (model.head("bpr"), model.consensus(num_listed=2)):
        assert view.fitted_on == graph_fingerprint(data)
    view = MultiBranch(data, 8, heads=("bpr", "mse")).head("mse")
    Trainer(max_epochs=1, progress=False).fit(view, data)
    assert view.model.fitted_on == view.fitted_on == graph_fingerprint(data)
