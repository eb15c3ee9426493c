from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_kd.models.multi_branch.branch import HEADS, TABLES, VARIANTS, Branch

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
        for layers, x in (
            (branch.shared or branch.user, user),
            (branch.shared or branch.item, item),
        )
    )
    scores = np.empty((USERS, ITEMS))
    weight = None if branch.head is None else branch.head.weight.detach().numpy()
    bias = 0.0  # of a head of pairs; those of tables come below
    if branch.shared is not None and branch.name not in TABLES:
        bias = branch.head.bias.detach().numpy()
    for u in range(USERS):
        for i in range(ITEMS):
            if branch.name == "bpr":
                scores[u, i] = (weight @ h_user[u] + bias) @ (weight @ h_item[i] + bias)
            elif branch.name == "cml":
                layer = np.eye(DIM // 4) if weight is None else weight
                pair = (layer @ h + bias for h in (h_user[u], h_item[i]))
                a, b = (v / max(1, np.linalg.norm(v)) for v in pair)
                scores[u, i] = -((a - b) ** 2).sum()
            elif branch.name in ("bce", "mse"):
                scores[u, i] = weight[0] @ (h_user[u] * h_item[i]) + np.sum(bias)
            elif branch.name == "multinomial":
                scores[u, i] = weight[i] @ h_user[u] + branch.head.bias[i].item()
            else:
                scores[u, i] = weight[u] @ h_item[i] + branch.head.bias[u].item()
    return scores


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", HEADS)
def test_scores(name: str, variant: str) -> None:
    branch = Branch(name, DIM, USERS, ITEMS, variant=variant).double().eval()
    user, item = tables()
    scale = 4 if variant == "paper" else 12  # some vectors are longer than one, some not
    x_user, x_item = branch(user * scale, item * scale)
    assert x_user.shape == (USERS, branch.width) and x_item.shape == (ITEMS, branch.width)
    if branch.kind == "distance":
        scores = -torch.cdist(x_user, x_item).square()
        inside = torch.cat([x_user, x_item]).norm(dim=1) < 0.999
        assert 0 < inside.sum() < USERS + ITEMS
    else:
        scores = x_user @ x_item.t()
    expected = oracle(branch, scale * user.numpy(), scale * item.numpy())
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


@pytest.mark.parametrize("name", HEADS)
def test_users_and_items_share_the_network_of_the_reference(name: str) -> None:
    branch = Branch(name, DIM, USERS, ITEMS, variant="reference")
    names = {key.split(".")[0] for key in branch.state_dict()}
    assert names == {"shared", "head"} and branch.head.bias is not None
    assert {key.split(".")[0] for key in Branch("mse", DIM, 2, 2).state_dict()} == {
        "user", "item", "head",
    }  # fmt: skip
