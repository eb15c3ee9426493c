from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pyg_kd.knowledge import extract_knowledge, values
from pyg_kd.knowledge.values import check_finite, check_lists, check_value


def as_it_should_be(lists: np.ndarray, size: int) -> bool:
    """Rows of distinct ids below ``size``, then -1."""
    for row in lists.reshape(-1, lists.shape[-1]).tolist():
        listed = [i for i in row if i != -1]
        if row != listed + [-1] * (len(row) - len(listed)) or len(set(listed)) < len(listed):
            return False
        if any(not 0 <= i < size for i in listed):
            return False
    return True


@st.composite
def almost_lists(draw):
    """Valid lists, most of them with some entries overwritten."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size, num_rows, width = (
        draw(st.integers(1, 7)),
        draw(st.integers(1, 5)),
        draw(st.integers(1, 5)),
    )
    lists = np.full((num_rows, width), -1)
    for row in lists:
        num = rng.integers(0, min(size, width) + 1)
        row[:num] = rng.permutation(size)[:num]
    for _ in range(draw(st.integers(0, 2))):
        lists[rng.integers(num_rows), rng.integers(width)] = rng.integers(-3, size + 2)
    return lists, size


@given(almost_lists(), st.sampled_from([1, 3, 2**20]), st.sampled_from([torch.int32, torch.int64]))
def test_lists_against_a_plain_loop(problem, block: int, dtype: torch.dtype) -> None:
    lists, size = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "BLOCK_ENTRIES", block)
        try:
            check_lists(torch.from_numpy(lists).to(dtype), size, "lists")
            found = True
        except ValueError:
            found = False
    assert found == as_it_should_be(lists, size)


def test_rows_of_stacks_are_those_of_users() -> None:
    lists = torch.arange(4).expand(5, 2, 3, 4).to(torch.int32).contiguous()
    check_lists(lists, 4, "'lists'")
    lists[3, 1, 2, 3] = 9
    with pytest.raises(ValueError, match=r"'lists' must hold ids in 0\.\.3.*got 9 in row 3\)"):
        check_lists(lists, 4, "'lists'")
    check_lists(lists[:, :, :, :0], 4, "'lists'")
    check_lists(lists[:0], 4, "'lists'")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_vectors_are_finite(value: float, dtype: torch.dtype) -> None:
    x = torch.full((4, 3), torch.finfo(dtype).max, dtype=dtype)
    check_finite(x, "'x'")
    x[2, 1] = value
    with pytest.raises(ValueError, match=rf"'x' must be finite \(got {value} in row 2\)"):
        check_finite(x, "'x'")
    check_finite(x[:0], "'x'")


@pytest.fixture
def graph(data, teacher):
    return extract_knowledge(teacher, data, num_items=5, num_users=4)


def edited(value: Tensor, place: tuple[int, ...], new: float) -> Tensor:
    value = value.clone()
    value[place] = new
    return value


@pytest.mark.parametrize(
    ("node_type", "name", "change", "message"),
    [
        ("user", "teacher_items", lambda x: edited(x, (7, 2), 31), r"0\.\.30.*got 31 in row 7"),
        ("user", "teacher_items", lambda x: edited(x, (7, 2), -2), r"got -2 in row 7"),
        ("user", "teacher_items", lambda x: edited(x, (7, 2), 2**30), "got 1073741824 in row 7"),
        ("user", "teacher_items", lambda x: edited(x, (7, 2), -1), "padded with -1 at the end"),
        ("user", "teacher_items", lambda x: edited(x, (7, 2), x[7, 0]), "must not repeat an id"),
        ("user", "teacher_items", lambda x: x.float(), r"int32 or int64 \(got torch.float32\)"),
        ("user", "teacher_items", lambda x: x.to(torch.uint8), r"\(got torch.uint8\)"),
        ("user", "teacher_items", lambda x: x[:, 0], r"2 dimensions \(got shape \[23\]\)"),
        ("user", "teacher_items", lambda x: x[:-1], "22 rows for 23 nodes"),
        ("user", "teacher_items", lambda x: x.tolist(), r"must be a tensor \(got list\)"),
        ("item", "teacher_users", lambda x: edited(x, (30, 0), 23), r"0\.\.22.*got 23 in row 30"),
        ("user", "teacher_x", lambda x: x.long(), r"floating point \(got torch.int64\)"),
        ("item", "teacher_x", lambda x: edited(x, (3, 1), torch.nan), "got nan in row 3"),
        ("item", "teacher_x", lambda x: edited(x, (3, 1), torch.inf), "got inf in row 3"),
        ("item", "teacher_x", lambda x: x.clone().requires_grad_(), "must not require gradients"),
        ("item", "teacher_x", lambda x: x.unsqueeze(0), "2 dimensions"),
        ("item", "teacher_x", lambda x: x[:, :0], r"at least one column \(got shape \[31, 0\]\)"),
        ("user", "teacher_items", lambda x: x[:, :0], r"at least one column .*\[23, 0\]"),
        ("item", "teacher_x", lambda x: x.to_sparse(), r"must be dense \(got torch.sparse_coo\)"),
    ],
)
def test_what_is_refused(graph, node_type, name, change, message) -> None:
    value = graph[node_type][name]
    check_value(graph, node_type, name, value)
    with pytest.raises(ValueError, match=rf"'graph\['{node_type}'\]\.{name}'.*{message}"):
        check_value(graph, node_type, name, change(value))


def test_looked_through_once_and_again_after_a_change(graph, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(values, "check_lists", lambda *args: calls.append(args))
    lists = graph["user"].teacher_items
    for _ in range(3):
        check_value(graph, "user", "teacher_items", lists)
    assert len(calls) == 1
    lists[0, 0] = 99  # in place, through a view or not
    check_value(graph, "user", "teacher_items", lists)
    lists[1].fill_(-5)
    check_value(graph, "user", "teacher_items", lists)
    assert len(calls) == 3
    graph["item"].num_nodes = 5  # another graph has another range
    check_value(graph, "user", "teacher_items", lists)
    assert len(calls) == 4
    with torch.inference_mode():
        untracked = lists.clone()
    for _ in range(2):
        check_value(graph, "user", "teacher_items", untracked)
    assert len(calls) == 6
