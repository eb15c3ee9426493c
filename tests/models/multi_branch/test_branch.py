from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_kd.models.multi_branch.branch import HEADS, Branch

USERS, ITEMS, DIM = 6, 9, 8


def tables() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(USERS, DIM).double(), torch.randn(ITEMS, DIM).double()


def network(layers: torch.nn.ModuleList, x: np.ndarray) -> np.ndarray:
    first, second = ((m.weight.detach().numpy(), m.bias.detach().numpy()) for m in layers)
    return np.maximum(x @ first[0].T + first[1], 0) @ second[0].T + second[1]


def oracle(branch: Branch, user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Scores of all pairs, by the definition of the head."""
    h_user, h_item = (
        None if layers is None else network(layers, x)
        for layers, x in ((branch.user, user), (branch.item, item))
    )
    scores = np.empty((USERS, ITEMS))
    weight = None if branch.head is None else branch.head.weight.detach().numpy()
    for u in range(USERS):
        for i in range(ITEMS):
            if branch.name == "bpr":
                scores[u, i] = (weight @ h_user[u]) @ (weight @ h_item[i])
            elif branch.name == "cml":
                a, b = (v / max(1, np.linalg.norm(v)) for v in (h_user[u], h_item[i]))
                scores[u, i] = -((a - b) ** 2).sum()
            elif branch.name in ("bce", "mse"):
                scores[u, i] = weight[0] @ (h_user[u] * h_item[i])
            elif branch.name == "multinomial":
                scores[u, i] = weight[i] @ h_user[u] + branch.head.bias[i].item()
            else:
                scores[u, i] = weight[u] @ h_item[i] + branch.head.bias[u].item()
    return scores


@pytest.mark.parametrize("name", HEADS)
def test_scores(name: str) -> None:
    branch, (user, item) = Branch(name, DIM, USERS, ITEMS).double().eval(), tables()
    x_user, x_item = branch(user * 4, item * 4)  # some vectors are longer than one, some not
    assert x_user.shape == (USERS, branch.width) and x_item.shape == (ITEMS, branch.width)
    if branch.kind == "distance":
        scores = -torch.cdist(x_user, x_item).square()
        inside = torch.cat([x_user, x_item]).norm(dim=1) < 0.999
        assert 0 < inside.sum() < USERS + ITEMS
    else:
        scores = x_user @ x_item.t()
    expected = oracle(branch, 4 * user.numpy(), 4 * item.numpy())
    np.testing.assert_allclose(scores.detach(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", HEADS)
def test_dropout_in_training_alone(name: str) -> None:
    branch, (user, item) = Branch(name, DIM, USERS, ITEMS, dropout=0.5).double(), tables()
    first, second = branch(user, item), branch(user, item)
    learnt = [side for side in (0, 1) if (branch.user, branch.item)[side] is not None]
    assert all(not torch.equal(first[side], second[side]) for side in learnt)
    branch.eval()
    assert all(map(torch.equal, branch(user, item), branch(user, item)))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_narrow_embeddings(dim: int) -> None:
    x_user, x_item = Branch("bpr", dim, USERS, ITEMS)(
        torch.randn(USERS, dim), torch.randn(ITEMS, dim)
    )
    assert x_user.shape == (USERS, 1) and x_item.shape == (ITEMS, 1)


def test_reset() -> None:
    branch = Branch("multinomial", DIM, USERS, ITEMS)
    before = [p.detach().clone() for p in branch.parameters()]
    branch.reset_parameters()
    assert not any(map(torch.equal, before, branch.parameters()))
