"""What a confidence in the places of lists does to every method that learns from them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyg_kd.distill import Distillation
from tests.contracts.conftest import variants

#: Takes from the lists of users only which items it looks at.
UNWEIGHTED = {"ItemSideRankingRegularization"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    found = [variant for variant in variants() if "teacher_items" in variant().needs]
    ids = ["-".join([v.cls.__name__, *map(str, v.kwargs.values())]) for v in found]
    metafunc.parametrize("learner", found, ids=ids)


def results(learner, world, confidence: Tensor | None, lists: Tensor | None = None) -> list[Tensor]:
    """The loss and its gradients after an epoch has started."""
    graph = world.copy()
    if confidence is not None:
        graph["user"].teacher_confidence = confidence
    if lists is not None:
        graph["user"].teacher_items = lists
    torch.manual_seed(3)
    method: Distillation = learner().bind(graph, world.dim)
    x_dict = world.x_dict()
    method.on_epoch_start(1, 3, {key: x.detach() for key, x in x_dict.items()})
    method.on_epoch_start(3, 4, {key: x.detach() for key, x in x_dict.items()})
    loss = method(x_dict, graph, world.batch)
    loss.backward()
    leaves = [*x_dict.values(), *method.parameters()]
    return [loss.detach(), *(torch.zeros_like(x) if x.grad is None else x.grad for x in leaves)]


def test_ones_change_nothing(learner, world) -> None:
    lists = world.graph["user"].teacher_items
    expected = results(learner, world, None)
    assert all(map(torch.equal, results(learner, world, torch.ones(lists.shape)), expected))


def test_no_confidence_is_the_end_of_a_list(learner, world) -> None:
    lists = world.graph["user"].teacher_items
    confidence, cut = torch.ones(lists.shape), lists.clone()
    confidence[::2, 45:], cut[::2, 45:] = 0, -1
    confidence[1], cut[1] = 0, -1
    expected = results(learner, world, None, cut)
    assert all(map(torch.equal, results(learner, world, confidence), expected))
    if learner.cls.__name__ not in UNWEIGHTED:
        assert not torch.equal(expected[0], results(learner, world, None)[0])


def test_places_without_confidence_are_left_out(learner, world) -> None:
    lists = world.graph["user"].teacher_items
    confidence, shorter = torch.ones(lists.shape), torch.full_like(lists, -1)
    confidence[:, 5:9] = 0
    shorter[:, :-4] = torch.cat([lists[:, :5], lists[:, 9:]], 1)
    expected = results(learner, world, None, shorter)
    assert all(map(torch.equal, results(learner, world, confidence), expected))


def test_the_loss_is_linear_in_the_confidence(learner, world) -> None:
    lists = world.graph["user"].teacher_items
    confidence = 0.5 + torch.rand(lists.shape, generator=torch.Generator().manual_seed(0))
    some = world.batch.unique_users[:3]
    steps = []
    for factor in (1.0, 2.0, 3.0):
        weight = confidence.clone()
        weight[some] *= factor
        steps.append([value.double() for value in results(learner, world, weight)])
    first, second = ([b - a for a, b in zip(*pair, strict=True)] for pair in
                     ((steps[0], steps[1]), (steps[1], steps[2])))  # fmt: skip
    assert bool((first[0] != 0) == (learner.cls.__name__ not in UNWEIGHTED))
    for a, b, scale in zip(first, second, steps[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * (1 + float(scale.abs().max())))
    # No other user's loss changes.
    others = torch.ones(len(first[1]), dtype=torch.bool)
    others[some] = False
    if learner.cls.__name__ != "PreferenceConsistentDistillation":  # students learn from DE alone
        assert not first[1][others].any()


def test_users_without_a_list_learn_nothing_from_lists(learner, world) -> None:
    listed = world.batch.unique_users[:2]
    lists = torch.full_like(world.graph["user"].teacher_items, -1)
    lists[listed] = world.graph["user"].teacher_items[listed]
    loss, x_user, *others = results(learner, world, None, lists)
    assert bool(loss.isfinite()) and all(bool(g.isfinite().all()) for g in (x_user, *others))
    # Other users learn by the lists of items, or from embeddings.
    if set(learner().needs) == {"teacher_items"}:
        assert set(x_user.any(1).nonzero().flatten().tolist()) <= set(listed.tolist())
        assert x_user.any()
