from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd import SoftLabel, evaluate
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import CML, EASE, MF, LightGCN, MultVAE, QuantizationAware
from pyg_kd.models.inference import inference
from pyg_kd.retrieval import Table, TopKIndex, load_student, save_student
from pyg_kd.training import Trainer
from pyg_kd.transforms import UserSplit


@pytest.fixture(scope="module")
def split() -> list[HeteroData]:
    from pyg_kd.datasets import SyntheticInteractions

    data = SyntheticInteractions(None, num_users=60, num_items=50, num_edges=900)[0]
    return list(UserSplit(seed=0)(data))


@pytest.mark.filterwarnings("ignore:the teacher is no better")
@pytest.mark.parametrize("model", [MF, LightGCN])
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_what_training_sees_is_what_is_served(split, tmp_path, model, dtype) -> None:
    train, val, _ = split
    torch.manual_seed(0)
    student = QuantizationAware(train, 6, model, dtype=dtype)
    graph = extract_knowledge(MF(train, 8, init_std=1.0), train, num_items=20)
    Trainer(max_epochs=3, batch_size=256, progress=False).fit(
        student, graph, val_data=val, distillations=[(SoftLabel(num_listed=10), 1.0)]
    )
    with inference(student):
        seen, raw = student(train), student.model(train)
    save_student(student, tmp_path / "bundle", graph=train, dtype=dtype)
    index = load_student(tmp_path / "bundle")
    for stored, side in ((index.x_user, "user"), (index.x_item, "item")):
        assert stored.dtype == dtype
        rounded = Table.of(raw[side].detach().numpy(), dtype)
        for table in (stored, rounded):
            assert np.array_equal(table.block(0, len(table)), seen[side].numpy())
    items, _ = student.recommend(train, k=5)
    assert np.array_equal(TopKIndex.from_model(student, train, dtype=dtype).x_item.values,
                          index.x_item.values)  # fmt: skip
    found, _ = index.search(np.arange(60), k=5)
    assert np.mean(found == items.numpy()) > 0.95  # but for ties


def test_a_resumed_run_ends_with_the_same_bits(split, tmp_path) -> None:
    train, val, _ = split

    def fit(epochs: int, folder: str, **options) -> QuantizationAware:
        torch.manual_seed(0)
        student = QuantizationAware(train, 4)
        trainer = Trainer(
            max_epochs=epochs, checkpoint_dir=tmp_path / folder, progress=False, **options
        )
        trainer.fit(student, train, val_data=val, resume=epochs > 2)
        return student

    fit(2, "parts")
    resumed, whole = fit(4, "parts"), fit(4, "whole")
    for ours, other in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, other)
    torch.manual_seed(0)
    other = QuantizationAware(train, 4, dtype="int8")
    with pytest.raises(ValueError, match=r"is from another run: model was .*int4.*, is .*int8"):
        Trainer(max_epochs=5, checkpoint_dir=tmp_path / "parts", progress=False).fit(
            other, train, val_data=val, resume=True
        )
    with pytest.raises(ValueError, match="dtype='int4', the model has dtype='int8'"):
        other.load_state_dict(resumed.state_dict())


def test_rounding_is_all_that_it_adds(split) -> None:
    train, _, test = split
    model = MF(train, 6, init_std=1.0)
    student = QuantizationAware.of(model, train, "int8")
    assert student.model is model and student.out_dim == 6
    wide = {key: Table.of(x.detach().numpy(), "int8") for key, x in model(train).items()}
    tables = [torch.from_numpy(wide[side].block(0, len(wide[side]))) for side in ("user", "item")]
    expected = MF.from_embeddings(train, *tables)
    assert evaluate(student, train, test) == evaluate(expected, train, test)
    before = model.user_embedding.detach().clone()
    student.reset_parameters()
    assert not torch.equal(before, model.user_embedding)


def test_training_makes_up_for_what_rounding_loses(split) -> None:
    train, _, _ = split
    users, items = train.edge_index_dict["user", "interacts", "item"]
    target = torch.zeros(60, 50).index_put((users, items), torch.tensor(1.0))

    def loss_of(model) -> torch.Tensor:
        x = model(train)
        return (x["user"] @ x["item"].t() - target).square().sum()

    def fit(model, lr: float) -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr)
        for step in range(300):
            optimizer.param_groups[0]["lr"] = lr * (1 - step / 300)
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()

    torch.manual_seed(0)
    student = QuantizationAware(train, 6, init_std=0.3)
    fit(student.model, 0.03)
    with torch.no_grad():  # the same scores, of rows in which one value hides the others
        student.model.user_embedding[:, 0] *= 20
        student.model.item_embedding[:, 0] /= 20
        wide, rounded = loss_of(student.model), loss_of(student)
    fit(student, 0.03)
    with torch.no_grad():
        assert loss_of(student) - wide < 0.5 * (rounded - wide)


def test_its_loss_is_the_models(split) -> None:
    train, _, _ = split
    assert QuantizationAware(train, 4, LightGCN).default_loss == "sampled_softmax"
    assert QuantizationAware(train, 4).default_loss == "bpr"


def test_models_that_cannot_be_rounded_are_refused(split) -> None:
    train, _, _ = split
    for model in (CML, lambda data, dim: EASE(data)):
        with pytest.raises(ValueError, match="'model' must score by inner products"):
            QuantizationAware(train, 4, model)
    with pytest.raises(ValueError, match="the loss of MultVAE does not read"):
        QuantizationAware(train, 4, MultVAE)
    with pytest.raises(ValueError, match=r"'dtype' must be one of .*got 'float16'"):
        QuantizationAware(train, 4, dtype="float16")
    with pytest.raises(TypeError, match=r"'model' must return a Recommender .got Linear"):
        QuantizationAware(train, 4, lambda data, dim: torch.nn.Linear(dim, dim))
    with pytest.raises(TypeError, match=r"'model' must be a Recommender .got type"):
        QuantizationAware.of(MF, train)
    other = train.clone()
    other["user"].num_nodes += 1
    with pytest.raises(ValueError, match="61 users"):
        QuantizationAware.of(MF(train, 4), other)
