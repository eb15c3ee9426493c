from __future__ import annotations

import hashlib
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.datasets.graph import edges_digest, interaction_graph
from pyg_kd.typing import INTERACTS, ITEM, USER

ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(-9, 9)), max_size=40)


@given(rows=ROWS, floating=st.booleans())
def test_edges_are_unique_and_sorted_with_the_latest_time(
    rows: list[tuple[int, int, int]], floating: bool
) -> None:
    latest: dict[tuple[int, int], int] = {}
    for user, item, time in rows:
        latest[user, item] = max(time, latest.get((user, item), time))
    user, item, time = torch.tensor(rows, dtype=torch.long).view(-1, 3).t()
    data = interaction_graph(user, item, 5, 7, time.double() if floating else time)
    store = data[INTERACTS]
    assert [tuple(e) for e in store.edge_index.t().tolist()] == sorted(latest)
    assert store.time.tolist() == [latest[e] for e in sorted(latest)]
    assert store.time.dtype == (torch.double if floating else torch.long)
    assert (data[USER].num_nodes, data[ITEM].num_nodes) == (5, 7)

    plain = interaction_graph(user, item, 5, 7)[INTERACTS]
    assert torch.equal(plain.edge_index, store.edge_index)
    assert "time" not in plain


def test_pairs_whose_keys_exceed_64_bits_are_refused() -> None:
    # 2**62 * 4 wraps around to 0: both edges would have the key 0 and be one.
    user, item = torch.tensor([0, 2**62]), torch.tensor([0, 0])
    with pytest.raises(
        ValueError, match=r"fewer than 2\*\*63 pairs .*\(got 4611686018427387905 users and 4"
    ):
        interaction_graph(user, item, 2**62 + 1, 4)
    edges = interaction_graph(user[1:] // 2, item[1:] + 1, 2**61 + 1, 2)[INTERACTS].edge_index
    assert edges.tolist() == [[2**61], [1]]


def test_digest_is_that_of_the_numbers() -> None:
    edges = torch.tensor([[5, 2**40], [0, 1]])
    content = struct.pack("<4q", 5, 2**40, 0, 1)
    assert edges_digest(edges) == hashlib.sha256(content).hexdigest()
    assert edges_digest(edges.t().contiguous().t()) == edges_digest(edges)
