from __future__ import annotations

import errno
import os
import tempfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.nn import LightGCN

from pyg_kd.functional import layer_blocks, normalized_adjacency, propagate
from tests.functional.propagations import dense_adjacency, graph, oracle, problems

U, I = 5, 6  # noqa: E741
# User 3 and items 1 and 5 are isolated; (0, 2) comes three times; unsorted.
EDGES = torch.tensor([[0, 4, 0, 2, 1, 2, 0, 4, 0, 1], [2, 0, 3, 3, 2, 4, 2, 4, 2, 0]])


def split(x: np.ndarray | Tensor, num_users: int = U) -> tuple[Tensor, Tensor]:
    x = torch.as_tensor(x)
    return x[:num_users].clone().requires_grad_(), x[num_users:].clone().requires_grad_()


@given(problems(), st.integers(0, 4))
def test_value_and_gradient_equal_the_dense_polynomial(problem, num_layers):
    edge_index, num_users, num_items, x = problem
    a = dense_adjacency(edge_index, num_users, num_items)
    x_user, x_item = split(x, num_users)
    outs = propagate(x_user, x_item, graph(edge_index, num_users, num_items), num_layers)
    expected = oracle(x, a, num_layers)
    actual = torch.cat(outs).detach().numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-6)

    # A weight that differs at every entry; the polynomial of a symmetric matrix is symmetric.
    weight = np.arange(1.0, x.size + 1).reshape(x.shape) / x.size
    loss = (torch.cat(outs) * torch.from_numpy(weight)).sum()
    gradient = torch.cat(torch.autograd.grad(loss, (x_user, x_item)))
    np.testing.assert_allclose(gradient.numpy(), oracle(weight, a, num_layers), atol=1e-6)


def test_gradcheck():
    adjacency = normalized_adjacency(graph(EDGES, U, I))
    inputs = split(np.random.default_rng(0).standard_normal((U + I, 1)))
    assert torch.autograd.gradcheck(lambda u, i: propagate(u, i, adjacency, 3), inputs)


def test_gradient_of_one_side_alone():
    x = np.random.default_rng(0).standard_normal((U + I, 3))
    x_user, x_item = split(x)
    out_user, _ = propagate(x_user, x_item, graph(EDGES, U, I), 2)
    out_user.sum().backward()  # the gradient that comes in is an expanded view, and half is absent
    weight = np.zeros_like(x)
    weight[:U] = 1
    expected = oracle(weight, dense_adjacency(EDGES, U, I), 2)
    np.testing.assert_allclose(x_user.grad.numpy(), expected[:U], atol=1e-6)
    np.testing.assert_allclose(x_item.grad.numpy(), expected[U:], atol=1e-6)


def test_the_adjacency_holds_the_dense_blocks():
    adjacency = normalized_adjacency(graph(EDGES, U, I))
    dense = dense_adjacency(EDGES, U, I)
    for block, expected in ((adjacency.user, dense[:U, U:]), (adjacency.item, dense[U:, :U])):
        assert block.ptr.dtype == block.col.dtype == torch.int32
        found = np.zeros_like(expected)
        for row in range(len(expected)):
            edges = slice(int(block.ptr[row]), int(block.ptr[row + 1]))
            columns = block.col[edges].tolist()
            assert columns == sorted(set(columns))
            found[row, columns] = block.value[edges]
        np.testing.assert_allclose(found, expected, atol=1e-7)
        assert block.value.isfinite().all()


def test_isolated_nodes_keep_a_share_of_themselves():
    x_user, x_item = split(torch.ones(U + I, 2))
    out_user, out_item = propagate(x_user, x_item, graph(EDGES, U, I), 3)
    torch.testing.assert_close(out_user[3], torch.full((2,), 0.25))
    torch.testing.assert_close(out_item[[1, 5]], torch.full((2, 2), 0.25))


def test_no_layers_and_no_edges():
    x_user, x_item = split(torch.randn(U + I, 2))
    out = propagate(x_user, x_item, graph(EDGES, U, I), 0)
    assert torch.equal(out[0], x_user) and torch.equal(out[1], x_item)
    none = graph(torch.empty(2, 0, dtype=torch.long), U, I)
    out = propagate(x_user, x_item, none, 2)
    torch.testing.assert_close(out, (x_user / 3, x_item / 3))


def test_the_inputs_are_left_as_they_were():
    x_user, x_item = split(torch.randn(U + I, 2))
    before = x_user.detach().clone(), x_item.detach().clone()
    propagate(x_user, x_item, graph(EDGES, U, I), 2)
    assert torch.equal(x_user, before[0]) and torch.equal(x_item, before[1])


@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
def test_agrees_with_lightgcn_of_pyg(num_layers):
    model = LightGCN(U + I, 4, num_layers)
    unique = EDGES.unique(dim=1)
    both = torch.stack([unique[0], unique[1] + U])
    expected = model.get_embedding(torch.cat([both, both.flip(0)], dim=1))
    x_user, x_item = split(model.embedding.weight.detach())
    out = torch.cat(propagate(x_user, x_item, graph(EDGES, U, I), num_layers))
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)

    expected.square().sum().backward()
    out.square().sum().backward()
    gradient = torch.cat([x_user.grad, x_item.grad])
    torch.testing.assert_close(gradient, model.embedding.weight.grad, atol=1e-5, rtol=1e-5)


def test_adjacency_moves_between_devices():
    adjacency = normalized_adjacency(graph(EDGES, U, I)).to("meta")
    assert {t.device.type for block in adjacency for t in block} == {"meta"}
    out_user, out_item = propagate(
        torch.empty(U, 2, device="meta"), torch.empty(I, 2, device="meta"), adjacency, 2
    )
    assert out_user.shape == (U, 2) and out_item.shape == (I, 2)


@pytest.mark.parametrize(
    ("user", "item", "num_layers", "message"),
    [
        ((U + 1, 2), (I, 2), 1, r"must be \[5, d\] and \[6, d\] \(got \[6, 2\] and \[6, 2\]\)"),
        ((U, 2), (I - 1, 2), 1, r"\(got \[5, 2\] and \[5, 2\]\)"),
        ((U, 2), (I, 3), 1, r"\(got \[5, 2\] and \[6, 3\]\)"),
        ((U, 2), (I, 2), -1, r"'num_layers' must not be negative \(got -1\)"),
    ],
)
def test_errors(user, item, num_layers, message):
    with pytest.raises(ValueError, match=message):
        propagate(torch.ones(user), torch.ones(item), graph(EDGES, U, I), num_layers)


def test_only_a_graph_is_read():
    with pytest.raises(TypeError, match="HeteroData"):
        propagate(torch.ones(U, 2), torch.ones(I, 2), EDGES, 1)


@given(problems(), st.integers(0, 3), st.integers(1, 7), st.booleans())
def test_blocks_give_the_same_bits(problem, num_layers, block_rows, in_files):
    edge_index, num_users, num_items, x = problem
    data = graph(edge_index, num_users, num_items)
    weight = torch.from_numpy(np.arange(1.0, x.size + 1).reshape(x.shape))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        options = {"block_rows": block_rows, "folder": folder if in_files else None}
        for given_options in ({}, options):
            inputs = split(x, num_users)
            outs = propagate(*inputs, data, num_layers, **given_options)
            gradients = torch.autograd.grad((torch.cat(outs) * weight).sum(), inputs)
            found.append([*(out.detach() for out in outs), *gradients])
            assert os.listdir(folder) == []  # files have no names
    for whole, blocks in zip(*found, strict=True):
        assert torch.equal(whole, blocks)


def test_layers_in_files_are_float32_and_large(tmp_path):
    """What comes back outlives the files' names, and takes gradients of gradients' files."""
    x_user, x_item = split(np.random.default_rng(0).standard_normal((U + I, 300)))
    x_user, x_item = x_user.float().detach().requires_grad_(), x_item.float()
    out = propagate(x_user, x_item, graph(EDGES, U, I), 2, block_rows=2, folder=tmp_path)
    expected = propagate(x_user, x_item, graph(EDGES, U, I), 2)
    assert torch.equal(out[0], expected[0]) and torch.equal(out[1], expected[1])
    (gradient,) = torch.autograd.grad(out[0].square().sum(), x_user)
    (same,) = torch.autograd.grad(expected[0].square().sum(), x_user)
    assert torch.equal(gradient, same)
    assert list(tmp_path.iterdir()) == []


def test_blocks_are_checked(tmp_path, monkeypatch):
    x = torch.ones(U, 2), torch.ones(I, 2)
    for rows in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match=r"'block_rows' must be a positive integer"):
            propagate(*x, graph(EDGES, U, I), 1, block_rows=rows)
    with pytest.raises(ValueError, match=r"'folder' needs 'block_rows'"):
        propagate(*x, graph(EDGES, U, I), 1, folder=tmp_path)
    with pytest.raises(NotADirectoryError, match=r"'folder' must be a folder \(got '.*nowhere'"):
        propagate(*x, graph(EDGES, U, I), 1, block_rows=2, folder=tmp_path / "nowhere")
    monkeypatch.setattr(layer_blocks, "_reserve", _full)
    with pytest.raises(OSError, match="No space left"):
        propagate(*x, graph(EDGES, U, I), 1, block_rows=2, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def _full(handle: int, size: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
