from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pyg_kd import RelaxedRankingDistillation, TopologyDistillation
from pyg_kd.functional import gather_rows, list_scores
from pyg_kd.functional.row_tables import is_row_table
from pyg_kd.models import MF, LightGCN
from pyg_kd.training import Trainer, rows
from pyg_kd.training.row_adam import RowAdam

ROWS, DIM = 30, 3


def reads(seed: int, steps: int) -> list[torch.Tensor]:
    """Rows of each step: few, at times one of them twice, at times a step apart by many."""
    generator = torch.Generator().manual_seed(seed)
    found = [torch.randint(0, ROWS, (4,), generator=generator) for _ in range(steps)]
    return [index % 5 if step % 3 else index for step, index in enumerate(found)]


@settings(max_examples=12)
@given(st.integers(0, 50), st.sampled_from([1, 40, 400]), st.booleans())
def test_equals_adam(seed: int, steps: int, scheduled: bool) -> None:
    torch.manual_seed(seed)
    start, slope = torch.randn(2, ROWS, DIM, dtype=torch.double)
    tables = [nn.Parameter(start.clone()) for _ in range(2)]
    dense = torch.optim.Adam(tables[:1], lr=0.02)
    rowwise = RowAdam(tables[1:], tables[1:], lr=0.02)
    index = reads(seed, steps)
    with rowwise.deferring():
        for step, at in enumerate(index):
            for table, optimizer in zip(tables, (dense, rowwise), strict=True):
                if scheduled:
                    optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / (2 * steps))
                optimizer.zero_grad(set_to_none=True)
                # No feedback, which would make much of little.
                ((-1) ** (step % 5) * gather_rows(table, at) * slope[at]).sum().backward()
                optimizer.step()
    # What remains is the epsilon, 1e-8, in another place.
    torch.testing.assert_close(tables[1], tables[0], rtol=1e-5, atol=1e-6)
    for name in ("exp_avg", "exp_avg_sq", "step"):
        found, expected = (o.state[t][name] for o, t in ((rowwise, tables[1]), (dense, tables[0])))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert not is_row_table(tables[1])


def test_lists_several_reads_and_dense_gradients() -> None:
    torch.manual_seed(0)
    start, x_user = torch.randn(ROWS, DIM, dtype=torch.double), torch.randn(2, DIM).double()
    tables = [nn.Parameter(start.clone()) for _ in range(2)]
    other = [nn.Parameter(torch.ones(DIM, dtype=torch.double)) for _ in range(2)]
    dense = torch.optim.Adam([tables[0], other[0]], lr=0.1)
    rowwise = RowAdam([tables[1], other[1]], tables[1:], lr=0.1)
    with rowwise.deferring():
        for step in range(30):
            items = torch.randint(-1, 6, (2, 4)) + step % 7
            for table, bias, optimizer in zip(tables, other, (dense, rowwise), strict=True):
                optimizer.zero_grad(set_to_none=True)
                scores = list_scores(x_user, table, items)
                loss = scores.masked_fill(items < 0, 0.0).square().sum()
                loss = loss + (gather_rows(table, items[0].clamp(min=0)) * bias).square().sum()
                if step in (9, 10, 25):  # then all rows have a gradient
                    if optimizer is rowwise:
                        rowwise.catch_up()
                    loss = loss + (table * 1.0).square().sum()
                loss.backward()
                optimizer.step()
    torch.testing.assert_close(tables[1], tables[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(other[1], other[0])


def test_decay_counts_where_rows_are_read() -> None:
    table = nn.Parameter(torch.ones(3, 2, dtype=torch.double))
    optimizer = RowAdam([table], [table], lr=0.1, weight_decay=0.5)
    with optimizer.deferring():
        (gather_rows(table, torch.tensor([1])) * 0.0).sum().backward()
        optimizer.step()
    expected = torch.ones(3, 2, dtype=torch.double)
    expected[1] -= 0.1  # the first step of Adam is of the size of the learning rate
    torch.testing.assert_close(table.detach(), expected)


def fit(train, val, **options):
    torch.manual_seed(0)
    model = MF(train, dim=4)
    options = {"max_epochs": 3, "batch_size": 16, "progress": False, "lr": 0.02, **options}
    history = Trainer(**options).fit(model, train, val_data=val)
    return model, history


def test_training_is_the_same(train, val) -> None:
    dense, expected = fit(train, val, sparse=False)
    sparse, found = fit(train, val, sparse=True)
    for name, x in dense.state_dict().items():
        torch.testing.assert_close(sparse.state_dict()[name], x, rtol=1e-3, atol=1e-5)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert not any(is_row_table(p) for p in sparse.parameters())
    again, _ = fit(train, val, sparse=True)
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in sparse.state_dict().items())


def test_with_distillation(graph, val) -> None:
    def run(sparse: bool) -> MF:
        torch.manual_seed(0)
        model = MF(graph, dim=4)
        methods = [
            (TopologyDistillation(num_groups=3), 1e-3),
            (RelaxedRankingDistillation(num_interesting=5, num_uninteresting=5), 1e-2),
        ]
        trainer = Trainer(max_epochs=2, batch_size=32, progress=False, sparse=sparse)
        trainer.fit(model, graph, val_data=val, distillations=methods)
        return model

    dense, sparse = run(False), run(True)
    for name, x in dense.state_dict().items():
        torch.testing.assert_close(sparse.state_dict()[name], x, rtol=1e-3, atol=1e-4)


def test_a_resumed_run_ends_with_the_same_bits(train, val, tmp_path) -> None:
    whole, _ = fit(train, val, sparse=True, max_epochs=4)
    fit(train, val, sparse=True, max_epochs=2, checkpoint_dir=tmp_path)
    torch.manual_seed(0)
    model = MF(train, dim=4)
    trainer = Trainer(
        max_epochs=4, batch_size=16, progress=False, lr=0.02, sparse=True, checkpoint_dir=tmp_path
    )
    trainer.fit(model, train, val_data=val, resume=True)
    for name, x in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], x)
    other = copy.copy(trainer)
    other.sparse = False
    with pytest.raises(ValueError, match="sparse was True, is False"):
        other.fit(model, train, val_data=val, resume=True)


def steps_of_rows(train, val, monkeypatch, **options) -> list[tuple[int, ...]]:
    """After each step of an epoch, the sizes of the tables that are read by rows."""
    found: list[tuple[int, ...]] = []
    advance = RowAdam.advance

    def spy(self):
        advance(self)
        found.append(tuple(len(table) for table in self.tables if is_row_table(table)))

    monkeypatch.setattr(RowAdam, "advance", spy)
    fit(train, val, max_epochs=1, **options)
    return found


@pytest.mark.parametrize(
    ("options", "first", "last"),
    [
        ({}, (), ()),  # small tables
        ({"least": 10}, (60,), (60,)),  # a batch has up to 16 of 60 users, and more items of 50
        ({"least": 55}, (60,), (60,)),
        ({"least": 10, "cost": 20}, (), ()),
        ({"least": 10, "cost": 1}, (60, 50), (60, 50)),
        ({"least": 10, "weight_decay": 1e-3}, (), ()),
        ({"least": 10, "average": 1.0}, (), ()),
        ({"least": 10, "batch_size": 4}, (60, 50), (60, 50)),
        ({"sparse": True, "cost": 20}, (60, 50), (60, 50)),
        ({"sparse": False, "least": 10}, (), ()),
    ],
)
def test_it_is_chosen_where_it_pays(train, val, monkeypatch, options, first, last) -> None:
    monkeypatch.setattr(rows, "LEAST_ROWS", options.pop("least", 100_000))
    monkeypatch.setattr(rows, "COST", options.pop("cost", 3))
    found = steps_of_rows(train, val, monkeypatch, **options)
    assert found[0] == first
    assert found[-1] == last


def test_steps_of_all_rows_follow_a_step_that_reads_many(train, val, monkeypatch) -> None:
    expected, _ = fit(train, val, sparse=False)
    monkeypatch.setattr(rows, "LEAST_ROWS", 10)
    monkeypatch.setattr(rows, "COST", 3)
    found, _ = fit(train, val)
    for name, x in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], x, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average": 1.0}, "'sparse' cannot be True: an average .* average=1.0"),
        ({"precision": "bf16-true"}, "'precision' must be one of .*bf16-true"),
    ],
)
def test_obstacles(train, val, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        fit(train, val, sparse=True, **options)


def test_models_and_losses_without_rows(graph) -> None:
    trainer = Trainer(max_epochs=1, progress=False, sparse=True)
    with pytest.raises(ValueError, match="representations of LightGCN are not tables"):
        trainer.fit(LightGCN(graph, dim=4), graph)
    method = TopologyDistillation(mode="full", entities="all")
    with pytest.raises(ValueError, match="every table is read as a whole"):
        trainer.fit(MF(graph, dim=4), graph, distillations=[(method, 1.0)])
    with pytest.raises(TypeError, match="'sparse' must be True, False or None"):
        Trainer(sparse=1)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_advancing_is_a_step(decay):
    found = []
    for name in ("step", "advance"):
        torch.manual_seed(0)
        table, other, idle = (nn.Parameter(torch.randn(6, 2)) for _ in range(3))
        optimizer = RowAdam([table, other, idle], [table], lr=0.1, weight_decay=decay)
        for step in range(4):
            with optimizer.deferring():
                optimizer.zero_grad()
                loss = gather_rows(table, torch.tensor([step, 1])).square().sum()
                if step % 2:  # now and then there is nothing for it
                    loss = loss + other.sin().sum()
                loss.backward()
                getattr(optimizer, name)()
        found.append([table, other, idle, optimizer.state_dict()["state"]])
    for a, b in zip(found[0][:3], found[1][:3], strict=True):
        assert torch.equal(a, b)
    states = found[0][3], found[1][3]
    assert states[0].keys() == states[1].keys() == {0, 1}
    for key, state in states[0].items():
        assert all(torch.equal(state[name], states[1][key][name]) for name in state)
