from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.evaluation import evaluate
from pyg_kd.models import MultiBranch
from pyg_kd.models.multi_branch.branch import HEADS, TABLES, VARIANTS
from pyg_kd.models.multi_branch.losses import Observed, branch_losses
from pyg_kd.models.multi_branch.weights import gradient_balance_loss
from pyg_kd.training import Trainer
from pyg_kd.transforms import UserSplit
from pyg_kd.typing import Batch


@pytest.fixture
def data() -> HeteroData:
    return SyntheticInteractions(None, num_users=30, num_items=20, num_edges=200)[0]


@pytest.fixture
def batch(data) -> Batch:
    edges = data["user", "item"].edge_index[:, ::4]
    return Batch(edges[0], edges[1], torch.randint(20, (edges.size(1),)))


def test_layout(data) -> None:
    model = MultiBranch(data, dim=8, heads=HEADS)
    assert [tuple(head) for head in model.layout] == [
        ("bpr", 0, 2, "inner"),
        ("cml", 2, 4, "distance"),
        ("bce", 4, 6, "inner"),
        ("mse", 6, 8, "inner"),
        ("multinomial", 8, 11, "inner"),
        ("item_multinomial", 11, 14, "inner"),
    ]
    assert model.out_dim == 14
    assert [head.name for head in MultiBranch(data).layout] == list(HEADS[:5])


def test_representations_are_those_of_the_branches(data) -> None:
    model = MultiBranch(data, dim=8, heads=("mse", "item_multinomial")).eval()
    x_dict = model(data)
    for head, branch in zip(model.layout, model.branches, strict=True):
        parts = branch(model.user_embedding, model.item_embedding)
        for x, part in zip(x_dict.values(), parts, strict=True):
            assert torch.equal(x[:, head.start : head.stop], part)


def test_the_first_head_scores(data) -> None:
    edges = torch.tensor([[3, 0], [1, 19]])
    for name in HEADS:
        others = tuple(head for head in HEADS if head != name)
        model = MultiBranch(data, dim=8, heads=(name, *others[:2])).eval()
        x_dict, view = model(data), model.head(name)
        block = view.score_block(*view(data).values())
        torch.testing.assert_close(model.score_block(*x_dict.values()), block)
        torch.testing.assert_close(model.score(x_dict, edges), block[edges[0], edges[1]])


@pytest.mark.parametrize("heads", [HEADS, ("multinomial",), ("cml", "item_multinomial")])
def test_own_loss_against_one_loss_at_a_time(data, batch, heads) -> None:
    model = MultiBranch(data, dim=8, heads=heads, init_std=1.0).double().eval()
    with torch.no_grad():
        model.weights.value.copy_(torch.rand(len(heads)) + 0.5)
        model.weights.value.mul_(len(heads) / model.weights.value.sum())
    total = model.own_loss(model(data), data, batch)
    total.backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)

    def losses() -> torch.Tensor:
        x_dict = model(data)
        rows = {"user": batch.unique_users, "item": batch.unique_items}
        vectors = [
            tuple(
                x[:, h.start : h.stop][slice(None) if TABLES.get(h.name) == t else rows[t]]
                for t, x in x_dict.items()
            )
            for h in model.layout
        ]
        return branch_losses(heads, vectors, batch, Observed.of(data))

    weights = model.weights.value.detach()
    expected = (weights * losses()).sum()
    torch.testing.assert_close(total, expected)
    expected.backward()
    norms, tables = [], (model.user_embedding, model.item_embedding)
    for x in range(len(heads)):
        parts = torch.autograd.grad(losses()[x], tables, allow_unused=True)
        norms.append([torch.zeros(()) if g is None else g.norm() for g in parts])
    norms = torch.tensor(norms).double()
    now = losses().detach()
    leaf = weights.clone().requires_grad_()
    gradient_balance_loss(leaf, norms[:, 0] + norms[:, 1] / 2, now, now).backward()
    # One branch alone has what it should have: the sign of nothing is rounding.
    if len(heads) > 1:
        torch.testing.assert_close(grads["weights.value"], leaf.grad, rtol=1e-6, atol=1e-8)
    for name, p in model.named_parameters():
        if name != "weights.value":
            found, grad = (torch.zeros_like(p) if g is None else g for g in (grads[name], p.grad))
            torch.testing.assert_close(found, grad)


def test_weights_move_towards_balance(data) -> None:
    model = MultiBranch(data, dim=8)
    Trainer(max_epochs=1, batch_size=200, progress=False, lr=0.0101).fit(model, data)
    # One step of Adam is as long as its rate: down where the norm was above its target, or up.
    moved = model.weights.value.detach() - 1
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.0101), rtol=1e-3, atol=0)
    assert 0 < (moved < 0).sum() < 5


def test_weights_by_name(data) -> None:
    model = MultiBranch(data, dim=8)
    with torch.no_grad():
        model.weights.value.copy_(torch.arange(5.0))
    weights = model.branch_weights(["mse", "bpr"])
    assert weights.tolist() == [3.0, 0.0] and not weights.requires_grad


def test_constant_weights(data, batch) -> None:
    model = MultiBranch(data, dim=8, balance=False)
    Trainer(max_epochs=2, batch_size=64, progress=False).fit(model, data)
    assert model.branch_weights(HEADS[:5]).tolist() == [1.0] * 5


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_continued_run_has_the_same_weights(data, tmp_path, variant: str) -> None:
    options = {"max_epochs": 4, "batch_size": 64, "progress": False, "weight_decay": 0.1}
    whole, part, again = (MultiBranch(data, dim=8, variant=variant) for _ in range(3))
    part.load_state_dict(whole.state_dict())
    Trainer(**options).fit(whole, data)
    trainer = Trainer(**options, checkpoint_dir=tmp_path)
    trainer.max_epochs = 2
    trainer.fit(part, data)
    trainer.max_epochs = 4
    history = trainer.fit(again, data, resume=True)
    assert len(history) == 4
    assert all(map(torch.equal, whole.state_dict().values(), again.state_dict().values()))
    assert not whole.branch_weights(HEADS[:5]).eq(1).any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_head_learns(variant: str) -> None:
    data = SyntheticInteractions(None, num_users=60, num_items=50, num_edges=900, num_groups=4)[0]
    train, val, _ = UserSplit(val=0.2, test=0.0)(data)
    torch.manual_seed(0)
    model = MultiBranch(train, dim=16, variant=variant, init_std=0.1)
    Trainer(max_epochs=15, batch_size=64, progress=False).fit(model, train)
    for head in model.layout:  # 0.2 to 0.3 untrained
        view = model.head(head.name)
        assert evaluate(view, train, val, k=10, metrics=("recall",))["recall@10"] > 0.4


def test_narrow_model(data, batch) -> None:
    model = MultiBranch(data, dim=1, heads=HEADS)
    model.own_loss(model(data), data, batch).backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


def test_changed_edges_change_the_likelihood(data, batch) -> None:
    model = MultiBranch(data, dim=8, heads=("multinomial",)).eval()
    first = model.own_loss(model(data), data, batch)
    data["user", "item"].edge_index = data["user", "item"].edge_index[:, ::2].contiguous()
    assert model.own_loss(model(data), data, batch) < 0.9 * first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": ()}, r"'heads' must be some of .*bpr.*each once \(got \(\)\)"),
        ({"heads": ("bpr", "warp")}, r"'heads' must be some of .*warp"),
        ({"heads": ("bpr", "bpr")}, r"'heads' must be some of .*each once"),
        ({"variant": "code"}, r"'variant' must be one of .*reference.* \(got 'code'\)"),
        ({"dropout": 1.0}, r"'dropout' must lie in \[0, 1\) \(got 1.0\)"),
    ],
)
def test_refused_options(data, options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiBranch(data, 8, **options)


def test_no_such_head(data) -> None:
    model = MultiBranch(data, dim=8, heads=("bpr", "mse"))
    for call in (model.head, lambda name: model.branch_weights([name])):
        with pytest.raises(ValueError, match=r"one of \('bpr', 'mse'\) \(got 'cml'\)"):
            call("cml")


def test_repr(data) -> None:
    assert repr(MultiBranch(data, dim=8, heads=("bpr", "cml"))) == (
        "MultiBranch(30, 20, dim=8, heads=[bpr, cml], dropout=0.1, balance=True)"
    )
    assert repr(MultiBranch(data, dim=8, heads=("bpr",), variant="reference")) == (
        "MultiBranch(30, 20, dim=8, heads=[bpr], dropout=0.1, balance=True, variant='reference')"
    )


def test_the_reference(data) -> None:
    model = MultiBranch(data, dim=8, variant="reference")
    assert [tuple(head) for head in model.layout] == [
        ("bpr", 0, 2, "inner"),
        ("cml", 2, 4, "distance"),
        ("bce", 4, 7, "inner"),
        ("mse", 7, 10, "inner"),
        ("multinomial", 10, 13, "inner"),
        ("item_multinomial", 13, 16, "inner"),
    ]
    assert 0.005 < model.user_embedding.std() < 0.015
    assert {"branches.0.shared.0.weight", "weights.num_seen"} < set(model.state_dict())
    assert not any("shared" in key or "num_seen" in key for key in MultiBranch(data).state_dict())


def test_the_reference_does_not_decay_its_weights(data) -> None:
    """A decay that shrinks all else to nothing leaves the first step of the weights what it is."""
    moved = []
    for decay in (0.0, 1e6):
        torch.manual_seed(0)
        model = MultiBranch(data, dim=8, variant="reference", dropout=0.0)
        trainer = Trainer(max_epochs=1, batch_size=200, progress=False, lr=0.01, weight_decay=decay)
        trainer.fit(model, data)
        moved.append(model.branch_weights(HEADS))
    torch.testing.assert_close(*moved)
    assert not moved[0].eq(1).any()
