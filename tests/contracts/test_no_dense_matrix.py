"""Nothing with users times items entries is ever allocated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pyg_kd.evaluation import evaluate
from pyg_kd.functional import list_scores, ranking
from pyg_kd.functional.operators import FUNCTIONS
from pyg_kd.functional.sparse import csr_matmul
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.training import Trainer
from pyg_kd.typing import INTERACTS

NUM_USERS, NUM_ITEMS, DIM = 600, 700, 8


class Allocations(TorchDispatchMode):
    """Fails on a strided tensor of a size, also inside of the package's own operators."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.largest, self.operators = limit, 0, set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        own = FUNCTIONS.get(func._schema.name)
        if own is None:
            out = func(*args, **(kwargs or {}))
        else:
            self.operators.add(func._schema.name)
            with self:  # the mode is off in here, and the operator is opaque
                out = own(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            # A sparse matrix counts by what it stores: its parts have come by already.
            if isinstance(value, Tensor) and value.layout == torch.strided:
                self.largest = max(self.largest, value.numel())
                if value.numel() >= self.limit:
                    raise AssertionError(f"{func} made a tensor {list(value.shape)}")
        return out


@pytest.fixture
def limited(large_world) -> Iterator[Allocations]:
    sizes = [large_world.data[node_type].num_nodes for node_type in ("user", "item")]
    assert sizes == [NUM_USERS, NUM_ITEMS]
    mode = Allocations(NUM_USERS * NUM_ITEMS)
    yield mode
    assert 0 < mode.largest < mode.limit


def split(world):
    """Some edges become targets: one of each user that has them."""
    train, target = world.data.clone(), world.data.clone()
    edges = world.data[INTERACTS].edge_index
    held = torch.arange(edges.size(1)) % 8 == 0
    train[INTERACTS].edge_index = target[INTERACTS].edge_index = edges[:, ~held]
    target[INTERACTS].edge_label_index = edges[:, held]
    return train, target


def test_a_dense_product_is_noticed(large_world) -> None:
    x_dict = large_world.x_dict()
    with (
        Allocations(NUM_USERS * NUM_ITEMS),
        pytest.raises(AssertionError, match=r"mm.*\[600, 700\]"),
    ):
        x_dict["user"] @ x_dict["item"].t()


def test_a_dense_gradient_is_noticed() -> None:
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.sum()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return (x @ x.t()) @ x * grad

    with Allocations(100):
        loss = Square.apply(torch.randn(10, 2, requires_grad=True))
        with pytest.raises(AssertionError, match=r"mm.*\[10, 10\]"):
            loss.backward()


def test_a_dense_product_within_an_operator_is_noticed(monkeypatch) -> None:
    def dense(ptr: Tensor, col: Tensor, value: Tensor, x: Tensor) -> Tensor:
        return torch.zeros(20, 20) @ x

    monkeypatch.setitem(FUNCTIONS, "pyg_kd::csr_matmul", dense)
    ptr, col = torch.zeros(21, dtype=torch.int32), torch.zeros(0, dtype=torch.int32)
    with Allocations(400), pytest.raises(AssertionError, match=r"\[20, 20\]"):
        csr_matmul(ptr, col, torch.zeros(0), torch.randn(20, 3))


def test_a_sparse_matrix_is_none(large_world) -> None:
    x_dict, items = large_world.x_dict(), large_world.graph["user"].teacher_items
    with Allocations(NUM_USERS * NUM_ITEMS) as mode:
        list_scores(x_dict["user"], x_dict["item"], items).sum().backward()
    names = ("sampled_matmul", "csr_matmul", "transposed_matmul")
    assert mode.operators == {f"pyg_kd::{name}" for name in names}


def test_method(make, large_world, limited: Allocations) -> None:
    with limited:
        method, x_dict = large_world.bind(make), large_world.x_dict()
        for epoch in (0, 10):
            method.on_epoch_start(epoch, 11, x_dict)
            large_world.loss(method, x_dict).backward()


def test_making_a_model(model_cls, large_world, limited: Allocations) -> None:
    with limited:
        model = model_cls(large_world.data, DIM)
        x_dict = model(large_world.data)
        users, items = x_dict["user"][:64], x_dict["item"][:128]
        assert model.score_block(users, items).shape == (64, 128)


def test_extraction(model_cls, large_world, limited: Allocations) -> None:
    teacher = model_cls(large_world.data, DIM)
    with limited:
        graph = extract_knowledge(
            teacher, large_world.data, num_items=60, num_users=40, row_block=64, col_tile=128
        )
    assert int((graph["user"].teacher_items >= 0).sum()) == 60 * NUM_USERS


def test_training_with_all_methods_at_once(
    learner_cls, all_methods, large_world, limited: Allocations, monkeypatch
) -> None:
    monkeypatch.setattr(ranking, "BLOCK_ENTRIES", 2**14)  # the validation's blocks
    train, target = split(large_world)
    edges = train[INTERACTS].edge_index
    train[INTERACTS].edge_index = edges[:, edges[0].diff(prepend=edges[0, :1] - 1) > 0]
    graph = extract_knowledge(learner_cls(train, 8), train, num_items=60, num_users=40)
    graph = large_world.with_trajectories(graph, 60)
    student = learner_cls(train, 4)  # some represent by several times their width
    trainer = Trainer(max_epochs=1, batch_size=64, accelerator="cpu", progress=False)
    with limited:
        # A score that is no inner product cannot be learnt from rankings.
        taught = [
            c
            for c in all_methods
            if student.inner_product or (not c.ranks and set(c.needs) == {"teacher_x"})
        ]
        methods = [(cls(), 1e-3) for cls in taught]
        history = trainer.fit(student, graph, val_data=target, distillations=methods)
    assert len(history) == 1


def test_evaluation(model_cls, large_world, limited: Allocations) -> None:
    train, target = split(large_world)
    model = model_cls(train, DIM)
    with limited:
        values = evaluate(model, train, target, k=20, batch_size=64)
    assert 0 < values["recall@20"] < 1
