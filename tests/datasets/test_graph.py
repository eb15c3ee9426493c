from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.datasets.graph import interaction_graph
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
