from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.functional import expert_slots
from pyg_kd.functional.expert_slots import ExpertSlots, plan_runs


def cost(loads: list[int], cuts: list[int]) -> int:
    """Slots and launches of runs that end at some cuts."""
    runs = [loads[a:b] for a, b in itertools.pairwise([0, *cuts, len(loads)])]
    return sum(len(run) * max(run) + expert_slots.LAUNCH * (max(run) > 0) for run in runs)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=8))
def test_runs_cost_as_little_as_any(loads):
    runs = plan_runs(loads)
    assert [run.start for run in runs] == [0, *(run.stop for run in runs[:-1])]
    assert runs[-1].stop == len(loads)
    assert all(run.slots == max(loads[run.start : run.stop]) for run in runs)
    places = range(1, len(loads))
    every = [c for k in range(len(loads)) for c in itertools.combinations(places, k)]
    found = [run.stop for run in runs[:-1]]
    assert cost(loads, found) == min(cost(loads, list(cuts)) for cuts in every)


def test_long_runs_are_cut():
    assert [run.stop - run.start for run in plan_runs([5] * 70)] == [6, 32, 32]


@given(st.integers(0, 12), st.integers(1, 7), st.floats(0, 1), st.integers(0, 999))
def test_every_edge_has_a_slot_with_its_expert(n, m, share, seed):
    rng = np.random.default_rng(seed)
    weight = rng.random((n, m)) * (rng.random((n, m)) < share)
    slots = ExpertSlots(torch.from_numpy(weight), torch.from_numpy(weight > 0))
    found = np.zeros((n, m))
    for experts, entity, value in slots.parts(slots.entity_of, slots.weight_of):
        for k, place in np.ndindex(entity.shape):
            if value[k, place] > 0:
                assert found[entity[k, place], experts.start + k] == 0
                found[entity[k, place], experts.start + k] = value[k, place]
    np.testing.assert_array_equal(found, weight)
    np.testing.assert_array_equal(slots.weight, weight[weight > 0])


@pytest.mark.parametrize("shape", [(5, 3), (1, 4), (0, 2)])
def test_slots_are_summed_by_entity(shape):
    weight = torch.arange(1.0, 1 + shape[0] * shape[1]).view(shape) % 3
    slots = ExpertSlots(weight, weight > 0)
    held = torch.randn(len(slots.entity_of), 2)
    expected = np.zeros((shape[0], 2))
    for place, (entity, value) in enumerate(zip(slots.entity_of, slots.weight_of, strict=True)):
        expected[entity] += (value * held[place]).numpy()
    np.testing.assert_allclose(
        slots.to_entities(held, slots.weight), expected, rtol=1e-5, atol=1e-6
    )
