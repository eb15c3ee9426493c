from __future__ import annotations

from math import factorial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_kd.models import BSPM, GFCF

U, I = 6, 7  # noqa: E741
# User 5 and item 6 are isolated, and (0, 2) comes twice.
EDGES = torch.tensor([[0, 4, 0, 2, 1, 2, 0, 3, 1, 3, 2, 3], [2, 0, 3, 3, 2, 4, 2, 5, 0, 1, 0, 4]])
ORDERS = {"euler": 1, "rk4": 4}


def graph(edge_index: torch.Tensor = EDGES, sizes: tuple[int, int] = (U, I)) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = sizes
    data["user", "interacts", "item"].edge_index = edge_index
    return data


def inverse_root(degree: np.ndarray) -> np.ndarray:
    return np.diag([d**-0.5 if d else 0.0 for d in degree])


def oracle(
    rank: int,
    beta: float,
    time: float,
    steps: int,
    solver: str,
    merge: str,
    edges=EDGES,
    sizes=(U, I),
) -> np.ndarray:
    """The differential equation, step by step, with dense matrices of double precision."""
    R = np.zeros(sizes)
    R[edges[0], edges[1]] = 1
    d_item = R.sum(0)
    Rn = inverse_root(R.sum(1)) @ R @ inverse_root(d_item)
    P = Rn.T @ Rn
    V = np.linalg.svd(Rn)[2][:rank].T
    low_pass = beta * R @ inverse_root(d_item) @ V @ V.T @ np.diag(d_item**0.5)
    S = R @ P + (low_pass if merge == "early" else 0)
    h = time / steps
    for _ in range(steps):
        slope = -S @ P
        if solver == "euler":
            S = S + h * slope
            continue
        second = -(S + h / 2 * slope) @ P
        third = -(S + h / 2 * second) @ P
        fourth = -(S + h * third) @ P
        S = S + h / 6 * (slope + 2 * second + 2 * third + fourth)
    return S + (0 if merge == "early" else low_pass)


@pytest.mark.parametrize("merge", ["early", "late"])
@pytest.mark.parametrize(
    ("solver", "steps", "time"),
    [("rk4", 1, 2.5), ("rk4", 2, 2.2), ("euler", 1, 1.2), ("euler", 3, 2.0)],
)
def test_scores_solve_the_equation(solver, steps, time, merge):
    model = BSPM(graph(), 3, beta=0.4, sharpening=time, num_steps=steps, solver=solver, merge=merge)
    x_user, x_item = model(graph()).values()
    expected = oracle(3, 0.4, time, steps, solver, merge)
    whole = model.score_block(x_user, x_item)
    np.testing.assert_allclose(whole.numpy(), expected, rtol=1e-5, atol=2e-6)
    # Fewer items than users: the signals are those of the items.
    few = model.score_block(x_user, x_item[2:4])
    np.testing.assert_allclose(few.numpy(), expected[:, 2:4], rtol=1e-5, atol=2e-6)
    pairs = torch.tensor([[5, 0, 3, 3, 1], [1, 6, 2, 2, 4]])
    scores = model.score(model(graph()), pairs)
    np.testing.assert_allclose(scores.numpy(), expected[pairs[0], pairs[1]], rtol=1e-5, atol=2e-6)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_graph(data):
    users, items = data.draw(st.integers(2, 9)), data.draw(st.integers(2, 9))
    pair = st.tuples(st.integers(0, users - 1), st.integers(0, items - 1))
    edges = torch.tensor(data.draw(st.lists(pair, min_size=1, max_size=30))).t()
    # The whole spectrum but one vector: with fewer, equal singular values make it ambiguous.
    time = data.draw(st.floats(0, 3))
    model = BSPM(graph(edges, (users, items)), 1, beta=0.0, sharpening=time)
    found = model.score_block(*model(graph(edges, (users, items))).values())
    expected = oracle(1, 0.0, time, 1, "rk4", "early", edges, (users, items))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_without_sharpening_it_is_gfcf():
    model, other = BSPM(graph(), 3, beta=0.3, sharpening=0.0), GFCF(graph(), 3, alpha=0.3)
    found, expected = (m.score_block(*m(graph()).values()) for m in (model, other))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_many_steps_come_to_the_exponential():
    spectrum = torch.linspace(0, 1, 11).double()
    errors = []
    for steps in (2, 4, 8):
        model = BSPM(graph(), 2, sharpening=2.0, num_steps=steps)
        value = sum(c * spectrum**power for power, c in enumerate(model.coefficients))
        errors.append(float((value - torch.exp(-2 * spectrum)).abs().max()))
    # The method is of fourth order: half the width, a sixteenth of the error.
    assert errors[1] < errors[0] / 12
    assert errors[2] < errors[1] / 12


def test_the_step_of_a_solver_is_the_series_of_the_exponential():
    for solver, order in ORDERS.items():
        model = BSPM(graph(), 2, sharpening=1.5, solver=solver)
        series = [(-1.5) ** j / factorial(j) for j in range(order + 1)]
        np.testing.assert_allclose(model.coefficients, series, rtol=1e-12)


def test_options_and_name():
    assert BSPM(graph()).dim == 1
    large = torch.stack([torch.arange(64), torch.arange(64)])
    assert BSPM(graph(large, (64, 70))).dim == 4
    assert repr(BSPM(graph(), 2, merge="late")) == (
        "BSPM(6, 7, dim=2, beta=0.2, sharpening=2.5, num_steps=1, solver='rk4', merge='late')"
    )
    with pytest.raises(ValueError, match=r"'dim' must be below 6, .* \(got 6\)"):
        BSPM(graph(), 6)
    for name in ("beta", "sharpening"):
        with pytest.raises(ValueError, match=rf"'{name}' must be 0 or more \(got -1\)"):
            BSPM(graph(), 2, **{name: -1})
    with pytest.raises(ValueError, match=r"'num_steps' must be a positive integer \(got 0\)"):
        BSPM(graph(), 2, num_steps=0)
    with pytest.raises(ValueError, match="'solver'"):
        BSPM(graph(), 2, solver="heun")
    with pytest.raises(ValueError, match="'merge'"):
        BSPM(graph(), 2, merge="middle")
    with pytest.raises(ValueError, match="no interactions"):
        BSPM(graph(EDGES[:, :0]), 2)
    with pytest.raises(ValueError, match="two users and two items"):
        BSPM(graph(EDGES[:, :0], (1, 5)))
