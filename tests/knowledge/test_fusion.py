from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd import RelaxedRankingDistillation, extract_knowledge
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.functional.ranks import merge_scored_lists
from pyg_kd.knowledge import fuse, fusion, load_knowledge, save_knowledge
from pyg_kd.knowledge.fusion_weights import WEIGHTS
from pyg_kd.models import EASE, MF, KernelRidge
from pyg_kd.training import Trainer
from pyg_kd.training.validation import Validation
from pyg_kd.transforms import UserSplit


@pytest.fixture(scope="module")
def split():
    return UserSplit(seed=0)(
        SyntheticInteractions(None, num_users=120, num_items=60, num_edges=2400)[0]
    )


def fused(
    lists: list[list[int]], worth: list[list[float]], weights: list[float]
) -> dict[int, float]:
    """One user's fused list with the sums: items by their sum, then by best rank, then by list."""
    total: dict[int, float] = {}
    first: dict[int, tuple[int, int]] = {}
    for m, items in enumerate(lists):
        for rank, item in enumerate(items):
            if item < 0 or not weights[m]:
                continue
            total[item] = total.get(item, 0.0) + weights[m] * worth[m][rank]
            first[item] = min(first.get(item, (rank, m)), (rank, m))
    ranked = sorted(total, key=lambda item: (-total[item], first[item]))
    return {item: total[item] for item in ranked}


@given(st.data())
def test_merged_lists(data: st.DataObject) -> None:
    num, length = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6))
    lists, worth = [], []
    for _ in range(num):
        items = data.draw(st.permutations(range(8)))[:length]
        cut = data.draw(st.integers(0, length))
        lists.append([*items[:cut], *[-1] * (length - cut)])
        worth.append(data.draw(st.lists(st.integers(0, 3), min_size=length, max_size=length)))
    k = data.draw(st.integers(1, 10))
    ranked, total = merge_scored_lists(torch.tensor([lists]), torch.tensor([worth]), k)
    expected = fused(lists, worth, [1.0] * num)
    missing = k - len(expected)
    assert ranked[0].tolist() == ([*expected] + [-1] * missing)[:k]
    assert total[0].tolist() == ([*expected.values()] + [-math.inf] * missing)[:k]


@pytest.mark.parametrize("how", ["reciprocal_rank", "borda", "score"])
@pytest.mark.parametrize("entries", [2**21, 300])
def test_formulas(split, how, entries, monkeypatch) -> None:
    monkeypatch.setattr(fusion, "ENTRIES", entries)
    train = split[0]
    torch.manual_seed(0)
    graphs = [extract_knowledge(MF(train, dim=d, init_std=1.0), train, num_items=k)
              for d, k in ((4, 30), (6, 12), (3, 30))]  # fmt: skip
    weights = [1.0, 0.37, 2.11]  # sums without exact ties, which rounding would break
    graph = fuse(graphs, weights, how=how, constant=7.0, num_items=20)
    for user in range(0, 120, 7):
        lists, worth = [], []
        for teacher in graphs:
            items = teacher["user"].teacher_items[user].tolist()
            size = len(items)
            x = teacher["user"].teacher_x[user].double().numpy()
            scores = teacher["item"].teacher_x.double().numpy()[items] @ x
            lists.append(items)
            worth.append({
                "reciprocal_rank": [1 / (7 + r) for r in range(size)],
                "borda": [1 - r / size for r in range(size)],
                "score": ((scores - scores.min()) / np.ptp(scores)).tolist(),
            }[how])  # fmt: skip
        expected = fused(lists, worth, weights)
        assert graph["user"].teacher_items[user].tolist() == [*expected][:20]
        found = graph["user"].teacher_scores[user].tolist()
        assert found == pytest.approx([math.log(v) for v in [*expected.values()][:20]], abs=1e-5)


def test_it_is_knowledge_of_a_teacher_of_its_own(split, tmp_path) -> None:
    train, val, _ = split
    graphs = [extract_knowledge(model, train) for model in (EASE(train), KernelRidge(train))]
    graph = fuse(graphs)
    assert graph["user"].teacher_items.dtype == torch.int32
    assert graph["user"].teacher_items.shape == (120, 60) and graph.teacher_weights == (1.0, 1.0)
    assert "teacher_x" not in graph["user"] and "teacher_items" not in train["user"]
    fingerprints = {g.teacher_fingerprint for g in (*graphs, graph, fuse(graphs, [1.0, 2.0]))}
    assert len(fingerprints) == 4
    save_knowledge(graph, tmp_path / "fused.safetensors")
    loaded = load_knowledge(tmp_path / "fused.safetensors", train)
    assert torch.equal(loaded["user"].teacher_items, graph["user"].teacher_items)
    assert torch.equal(loaded["user"].teacher_scores, graph["user"].teacher_scores)
    seen = train["user", "interacts", "item"].edge_index
    lists = graph["user"].teacher_items.long()
    assert not (lists[seen[0]] == seen[1][:, None]).any()
    trainer = Trainer(max_epochs=2, batch_size=512, progress=False)
    method = RelaxedRankingDistillation(num_interesting=10, num_uninteresting=10)
    trainer.fit(MF(graph, dim=4), graph, val_data=val, distillations=[(method, 1e-2)])


def test_a_teacher_alone_keeps_its_lists(split) -> None:
    train = split[0]
    graph = extract_knowledge(EASE(train), train, num_items=25)
    for how in ("reciprocal_rank", "borda"):
        found = fuse([graph], how=how)["user"].teacher_items
        assert torch.equal(found, graph["user"].teacher_items)
    other = extract_knowledge(MF(train, dim=4), train, num_items=40)
    found = fuse([graph, other], [1.0, 0.0])["user"].teacher_items
    assert torch.equal(found[:, :25], graph["user"].teacher_items)
    assert found.size(1) == 40 and bool((found[:, 25:] == -1).all())


def test_weights_are_chosen_by_validation(split) -> None:
    train, val, _ = split
    torch.manual_seed(0)
    models = [MF(train, dim=4), KernelRidge(train), EASE(train)]  # the first one knows nothing
    graphs = [extract_knowledge(model, train) for model in models]
    graph = fuse(graphs, val_data=val, metric="ndcg@10")
    value = Validation(train, val, "ndcg@10").of_teacher
    singles = [value(g) for g in graphs]
    assert value(graph) >= max(singles) > singles[0]
    # No other teacher, at none of the weights, would improve it.
    for m in (m for m, weight in enumerate(graph.teacher_weights) if not weight):
        for weight in WEIGHTS:
            trial = list(graph.teacher_weights)
            trial[m] = weight
            assert value(fuse(graphs, trial)) <= value(graph)
    again = fuse(models, data=train, val_data=val, metric="ndcg@10")
    assert torch.equal(again["user"].teacher_items, graph["user"].teacher_items)


def test_users_without_lists(split) -> None:
    train = split[0]
    graphs = [
        extract_knowledge(EASE(train), train, num_items=9, users=[3, 4]),
        extract_knowledge(KernelRidge(train), train, num_items=9, users=[4, 5]),
    ]
    lists = fuse(graphs)["user"].teacher_items
    assert lists[3].tolist() == graphs[0]["user"].teacher_items[0].tolist()
    assert lists[5].tolist() == graphs[1]["user"].teacher_items[1].tolist()
    assert bool((lists[6] == -1).all())
    scores = fuse(graphs)["user"].teacher_scores
    assert bool(scores.isfinite().all()) and not scores[lists < 0].any()


@pytest.mark.parametrize("how", ["reciprocal_rank", "borda", "score"])
def test_scores_and_confidence_of_lists(split, how) -> None:
    train, generator = split[0], torch.Generator().manual_seed(0)
    graphs = [extract_knowledge(EASE(train, l2=v), train, num_items=12) for v in (1.0, 1e3)]
    for graph in graphs:
        shape = graph["user"].teacher_items.shape
        graph["user"].teacher_scores = torch.rand(shape, generator=generator)
        sure = torch.rand(shape, generator=generator)
        graph["user"].teacher_confidence = sure.masked_fill(sure < 0.3, 0)
    weights = [1.0, 0.37]
    found = fuse(graphs, weights, how=how, constant=7.0)["user"]
    for user in range(0, 120, 11):
        lists, worth = [], []
        for graph in graphs:
            store = graph["user"]
            kept = store.teacher_confidence[user] > 0
            items, score, sure = (
                store[f"teacher_{name}"][user][kept].double().numpy()
                for name in ("items", "scores", "confidence")
            )
            rank = np.arange(len(items))
            lists.append(items.astype(int).tolist())
            worth.append(sure * {
                "reciprocal_rank": 1 / (7 + rank),
                "borda": 1 - rank / 12,
                "score": (score - score.min()) / np.ptp(score),
            }[how])  # fmt: skip
        expected = [*fused(lists, worth, weights)][:12]
        assert found.teacher_items[user].tolist() == expected + [-1] * (12 - len(expected))


def test_what_adds_nothing_has_a_finite_score(split) -> None:
    graph = extract_knowledge(MF(split[0], dim=4), split[0], num_items=9)
    scores = fuse([graph], how="score")["user"].teacher_scores  # the last place is worth 0
    assert bool(scores.isfinite().all()) and float(scores[:, -1].max()) < -60


def test_bad_input(split) -> None:
    train, val, _ = split
    graph = extract_knowledge(EASE(train), train, num_items=9)
    latent = extract_knowledge(MF(train, dim=4), train, num_items=9)
    other = SyntheticInteractions(None, num_users=120, num_items=60, num_edges=900)[0]
    wrong = [
        (ValueError, "'teachers' must be a list", {"teachers": []}),
        (ValueError, "'teachers' must be a list", {"teachers": graph}),
        (TypeError, "must be a graph or a model .got int", {"teachers": [3]}),
        (ValueError, "need 'data'", {"teachers": [EASE(train)]}),
        (ValueError, "needs 'graph.*teacher_items'", {"teachers": [train]}),
        (ValueError, "teacher 1 is of another graph",
         {"teachers": [graph, extract_knowledge(EASE(other), other, num_items=9)]}),
        (ValueError, "'weights' must be 2 numbers", {"weights": [1.0]}),
        (ValueError, "'weights' must be 2 numbers, .* not all 0", {"weights": [0.0, 0.0]}),
        (ValueError, "'weights' must be 0 or more", {"weights": [1.0, -1.0]}),
        (ValueError, "given or chosen", {"weights": [1.0, 1.0], "val_data": val}),
        (ValueError, "'how' must be one of", {"how": "vote"}),
        (ValueError, "'constant' must be positive", {"constant": 0.0}),
        (ValueError, "'num_items' must be a positive", {"num_items": 0}),
        (ValueError, "'metric' must look like", {"val_data": val, "metric": "ndcg"}),
        (ValueError, "inner products of 'teacher_x'", {"how": "score"}),
    ]  # fmt: skip
    for error, message, options in wrong:
        with pytest.raises(error, match=message):
            fuse(**{"teachers": [graph, latent], **options})
