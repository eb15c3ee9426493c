from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_kd.loader import InteractionLoader, interaction_loader
from pyg_kd.typing import INTERACTS, Batch


def graph(pairs: np.ndarray, num_users: int, num_items: int) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    data[INTERACTS].edge_index = torch.from_numpy(pairs.T.copy())
    return data


@pytest.fixture
def data() -> HeteroData:
    rng = np.random.default_rng(0)
    return graph(np.argwhere(rng.random((30, 20)) < 0.4), 30, 20)


def triples(batches: list[Batch]) -> list[torch.Tensor]:
    parts = zip(*((b.user, b.positive, b.negative) for b in batches), strict=True)
    return [torch.cat(part) for part in parts]


def edges(data: HeteroData) -> list[list[int]]:
    return sorted(data[INTERACTS].edge_index.t().tolist())


@pytest.mark.parametrize("batch_size", [1, 7, 32, 10_000])
def test_every_interaction_once_an_epoch(data, batch_size: int) -> None:
    loader = InteractionLoader(data, batch_size)
    for _ in range(2):
        batches = list(loader)
        user, positive, negative = triples(batches)
        assert sorted(torch.stack([user, positive], 1).tolist()) == edges(data)
        assert len(batches) == len(loader) == -(-user.numel() // batch_size)
        assert {len(b) for b in batches[:-1]} <= {batch_size}
        assert negative.shape == user.shape
        assert {t.dtype for t in (user, positive, negative)} == {torch.int64}


def test_repeated_edges_are_repeated(data) -> None:
    edge_index = data[INTERACTS].edge_index
    data[INTERACTS].edge_index = torch.cat([edge_index, edge_index[:, :3]], 1)
    user, positive, _ = triples(list(InteractionLoader(data, 16)))
    assert sorted(torch.stack([user, positive], 1).tolist()) == edges(data)


@given(
    seed=st.integers(0, 2**20),
    num_users=st.integers(1, 8),
    num_items=st.integers(2, 9),
    batch_size=st.integers(1, 20),
    num_negatives=st.integers(1, 3),
)
def test_negatives_are_unseen(seed, num_users, num_items, batch_size, num_negatives) -> None:
    rng = np.random.default_rng(seed)
    seen = rng.random((num_users, num_items)) < rng.random()
    seen[:, rng.integers(num_items)] = False  # something is left for everyone
    if not seen.any():
        return
    data = graph(np.argwhere(seen), num_users, num_items)
    loader = InteractionLoader(data, batch_size, num_negatives=num_negatives, seed=seed)
    user, _, negative = triples(list(loader))
    shape = (len(user),) if num_negatives == 1 else (len(user), num_negatives)
    assert negative.shape == shape
    negative = negative.view(len(user), -1).numpy()
    assert ((negative >= 0) & (negative < num_items)).all()
    assert not seen[user.numpy()[:, None], negative].any()


def test_negatives_are_uniform() -> None:
    pairs = np.array([[0, 1], [0, 4], [1, 0]])
    data = graph(np.repeat(pairs, 6_000, axis=0), 2, 6)
    user, _, negative = triples(list(InteractionLoader(data, 1_000)))
    for u, left in ((0, [0, 2, 3, 5]), (1, [1, 2, 3, 4, 5])):
        count = np.bincount(negative[user == u], minlength=6)[left]
        expected = count.sum() / len(left)
        # Chi-square with at most 4 degrees of freedom: beyond 18.5 with p = 0.001.
        assert ((count - expected) ** 2 / expected).sum() < 18.5


def test_order_is_shuffled_anew_every_epoch(data) -> None:
    loader = InteractionLoader(data, 16)
    first, second = (triples(list(loader)) for _ in range(2))
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[0], data[INTERACTS].edge_index[0])


def test_same_seed_same_bits_whatever_else_is_drawn(data) -> None:
    a = InteractionLoader(data, 16, num_negatives=2, seed=5)
    first = [tensor for _ in range(2) for tensor in triples(list(a))]
    torch.manual_seed(99)
    b = InteractionLoader(data, 16, num_negatives=2, seed=5)
    second = [tensor for _ in range(2) for tensor in triples(list(b))]
    assert all(map(torch.equal, first, second))
    other = triples(list(InteractionLoader(data, 16, num_negatives=2, seed=6)))
    assert not torch.equal(other[0], first[0])


def test_iterating_leaves_the_global_state_alone(data) -> None:
    before = torch.get_rng_state()
    list(InteractionLoader(data, 16))
    assert torch.equal(before, torch.get_rng_state())


def test_an_epoch_can_be_asked_for(data) -> None:
    loader = InteractionLoader(data, 16)
    epochs = [triples(list(loader)) for _ in range(3)]
    assert loader.epoch == 3
    loader.epoch = 1
    assert all(map(torch.equal, triples(list(loader)), epochs[1]))
    assert loader.epoch == 2


@pytest.mark.parametrize("chunk", [1, 5, 16, 40])
def test_chunks_do_not_show(data, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    whole = list(InteractionLoader(data, 16))
    monkeypatch.setattr(interaction_loader, "CHUNK", chunk)
    parts = list(InteractionLoader(data, 16))
    assert [len(b) for b in parts] == [len(b) for b in whole]
    for a, b in zip(whole, parts, strict=True):
        assert torch.equal(a.user, b.user) and torch.equal(a.positive, b.positive)
    seen = set(map(tuple, edges(data)))
    user, _, negative = triples(parts)
    assert not seen & set(zip(user.tolist(), negative.tolist(), strict=True))


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("num_negatives", [1, 2])
def test_shares_make_up_the_batch(data, world_size: int, num_negatives: int) -> None:
    options = {"num_negatives": num_negatives, "seed": 3}
    whole = list(InteractionLoader(data, 16, **options))
    shares = [
        list(InteractionLoader(data, 16, rank=rank, world_size=world_size, **options))
        for rank in range(world_size)
    ]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        for name in ("user", "positive", "negative"):
            together = torch.cat([getattr(part, name) for part in parts])
            assert torch.equal(together, getattr(batch, name))
            assert all(torch.equal(getattr(part.whole, name), together) for part in parts)


@pytest.mark.parametrize("name", ["batch_size", "num_negatives"])
def test_sizes_must_be_positive(data, name: str) -> None:
    options = {"batch_size": 16, "num_negatives": 1} | {name: 0}
    with pytest.raises(ValueError, match=rf"'{name}' must be a positive integer \(got 0\)"):
        InteractionLoader(data, **options)


def test_no_interactions() -> None:
    with pytest.raises(ValueError, match="'data' has no interactions"):
        InteractionLoader(graph(np.zeros((0, 2), dtype=np.int64), 3, 4), 16)


def test_a_user_who_has_seen_everything() -> None:
    pairs = np.array([[0, 1], [1, 0], [1, 1], [1, 2], [2, 0], [2, 2]])
    for by, visits in (("interaction", 3), ("user", 2)):
        with pytest.warns(UserWarning, match=r"all 3 items are left out .*: 1 \(row 1\)"):
            loader = InteractionLoader(graph(pairs, 3, 3), 2, by=by)
        users = torch.cat([batch.user for batch in loader])
        assert len(users) == visits == loader.num_visits and set(users.tolist()) == {0, 2}
        assert len(loader) == -(-visits // 2)


def test_nobody_has_anything_left() -> None:
    pairs = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    with pytest.raises(ValueError, match="every user has seen all 2 items: no negative is left"):
        InteractionLoader(graph(pairs, 3, 2), 16)


def test_something_else_than_a_graph() -> None:
    with pytest.raises(TypeError, match="'data' must be a HeteroData"):
        InteractionLoader([1, 2], 16)


def test_repr(data) -> None:
    count = data[INTERACTS].edge_index.size(1)
    text = f"InteractionLoader({count}, batch_size=16, by='interaction', num_negatives=2, seed=4)"
    assert repr(InteractionLoader(data, 16, num_negatives=2, seed=4)) == text


@pytest.mark.parametrize("batch_size", [1, 7, 10_000])
def test_every_user_once_an_epoch(data, batch_size: int) -> None:
    # One user has no interaction.
    keep = data[INTERACTS].edge_index[0] != 11
    data[INTERACTS].edge_index = data[INTERACTS].edge_index[:, keep]
    loader = InteractionLoader(data, batch_size, by="user")
    batches = list(loader)
    user, positive, negative = triples(batches)
    assert sorted(user.tolist()) == [u for u in range(30) if u != 11]
    assert user.tolist() != sorted(user.tolist())
    assert len(batches) == len(loader) == -(-29 // batch_size)
    seen = set(map(tuple, edges(data)))
    assert set(zip(user.tolist(), positive.tolist(), strict=True)) <= seen
    assert not set(zip(user.tolist(), negative.tolist(), strict=True)) & seen


def test_the_interaction_of_a_user_is_uniform() -> None:
    pairs = np.array([[0, 1], [0, 4], [0, 5], [1, 0]])
    loader = InteractionLoader(graph(pairs, 2, 6), 2, by="user")
    drawn = torch.cat([batch.positive[batch.user == 0] for _ in range(3_000) for batch in loader])
    count = np.bincount(drawn.numpy(), minlength=6)
    assert count[[0, 2, 3]].sum() == 0
    # Chi-square with 2 degrees of freedom: beyond 13.8 with p = 0.001.
    assert ((count[[1, 4, 5]] - 1_000) ** 2 / 1_000).sum() < 13.8


def test_user_batches_follow_from_seed_and_epoch(data) -> None:
    first, second = (triples(list(InteractionLoader(data, 8, by="user", seed=2))) for _ in "ab")
    assert all(map(torch.equal, first, second))
    loader = InteractionLoader(data, 8, by="user", seed=2)
    epochs = [triples(list(loader)) for _ in range(2)]
    assert not torch.equal(epochs[0][1], epochs[1][1])


def test_unknown_unit(data) -> None:
    with pytest.raises(ValueError, match=r"'by' must be one of .*'item'"):
        InteractionLoader(data, 16, by="item")


@pytest.mark.parametrize("rank", [-1, 2])
def test_rank_is_one_of_the_processes(data, rank: int) -> None:
    with pytest.raises(ValueError, match=rf"'rank' must lie in 0..1 \(got {rank}\)"):
        InteractionLoader(data, 16, rank=rank, world_size=2)


@pytest.mark.parametrize("by", ["interaction", "user"])
def test_seed_and_epoch_decide_what_is_drawn(data, by: str) -> None:
    """Order, positives and negatives: the same for the same pair, others for every other one."""

    def drawn(seed: int, epoch: int) -> list[torch.Tensor]:
        loader = InteractionLoader(data, 16, by=by, num_negatives=3, seed=seed)
        loader.epoch = epoch
        return triples(list(loader))

    pairs = [(seed, epoch) for seed in (0, 1, 5) for epoch in (0, 1, 2, 7)]
    found = [drawn(*pair) for pair in pairs]
    assert all(all(map(torch.equal, drawn(*p), f)) for p, f in zip(pairs, found, strict=True))
    for column in range(3):
        texts = {tuple(f[column].flatten().tolist()) for f in found}
        assert len(texts) == len(pairs)
    # Not the same negatives in another order either: those of a user change.
    negatives = [
        {tuple(row) for row in torch.cat([f[0].unsqueeze(1), f[2]], 1).tolist()} for f in found
    ]
    assert all(a != b for n, a in enumerate(negatives) for b in negatives[:n])
