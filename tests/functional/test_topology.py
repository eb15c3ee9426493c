from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile

from pyg_kd.functional import full_topology_loss, hierarchical_topology_loss, topology_pairs
from pyg_kd.functional.topology import LEVELS
from pyg_kd.functional.topology_pairs import PAIR_TILE, all_pairs, grouped_pairs

OPTIONS = list(itertools.product(LEVELS, *[(True, False)] * 3))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The cosine of two vectors; a vector of zeros has cosine 0 with everything."""
    norm = np.sqrt(a @ a) * np.sqrt(b @ b)
    return float(a @ b / norm) if norm > 0 else 0.0


def full_oracle(s: np.ndarray, t: np.ndarray) -> float:
    pairs = itertools.product(range(len(s)), repeat=2)
    return sum((cosine(t[i], t[j]) - cosine(s[i], s[j])) ** 2 for i, j in pairs)


def entity_oracle(s: np.ndarray, t: np.ndarray, group: list[int], positive_only: bool) -> float:
    loss = 0.0
    for i, j in itertools.product(range(len(s)), repeat=2):
        rho = cosine(t[i], t[j])
        if group[i] == group[j] and (rho > 0 or not positive_only):
            loss += (rho - cosine(s[i], s[j])) ** 2
    return loss


def group_oracle(
    s: np.ndarray, t: np.ndarray, group: list[int], level: str, exclude_own_group: bool
) -> float:
    members = {k: [e for e, g in enumerate(group) if g == k] for k in sorted(set(group))}
    p_s, p_t = ({k: x[m].mean(0) for k, m in members.items()} for x in (s, t))
    if level == "prototype-prototype":
        pairs = itertools.product(members, repeat=2)
        return sum((cosine(p_t[k], p_t[m]) - cosine(p_s[k], p_s[m])) ** 2 for k, m in pairs)
    loss = 0.0
    for k, j in itertools.product(members, range(len(s))):
        if not (exclude_own_group and group[j] == k):
            loss += (cosine(p_t[k], t[j]) - cosine(p_s[k], s[j])) ** 2
    return loss


def dense(
    s: Tensor,
    t: Tensor,
    group: Tensor,
    num_groups: int,
    *,
    level: str,
    exclude_own_group: bool,
    positive_pairs_only: bool,
    detach_prototypes: bool,
) -> tuple[Tensor, Tensor]:
    """A transcription with whole matrices, for autograd; no row of zeros allowed."""
    s_hat, t_hat = s / s.norm(dim=1, keepdim=True), t / t.norm(dim=1, keepdim=True)
    rho_s, rho_t = s_hat @ s_hat.T, t_hat @ t_hat.T
    same = group[:, None] == group[None]
    if positive_pairs_only:
        same = same & (rho_t > 0)
    entity = ((rho_t - rho_s) ** 2)[same].sum()
    present = [k for k in range(num_groups) if (group == k).any()]
    p_s, p_t = (torch.stack([x[group == k].mean(0) for k in present]) for x in (s, t))
    if detach_prototypes:
        p_s = p_s.detach()
    p_s, p_t = p_s / p_s.norm(dim=1, keepdim=True), p_t / p_t.norm(dim=1, keepdim=True)
    if level == "prototype-prototype":
        return entity, ((p_t @ p_t.T - p_s @ p_s.T) ** 2).sum()
    outside = torch.tensor(present)[:, None] != group[None]
    difference = (p_t @ t_hat.T - p_s @ s_hat.T) ** 2
    return entity, difference[outside | (not exclude_own_group)].sum()


def tables(b: int, d_s: int, d_t: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    s = torch.randn(b, d_s, dtype=torch.double, generator=generator, requires_grad=True)
    return s, torch.randn(b, d_t, dtype=torch.double, generator=generator)


def numpy(*values: Tensor) -> list[np.ndarray]:
    return [v.detach().double().numpy() for v in values]


# Up to d_t rows pairs are formed, above it Gram products: both, and the rows next to the switch.
@pytest.mark.parametrize("b", [0, 1, 2, 5, 6, 7, 30])
@pytest.mark.parametrize("d_s", [1, 3, 9])
def test_full_topology(b, d_s):
    s, t = tables(b, d_s, 6)
    loss = full_topology_loss(s, t)
    np.testing.assert_allclose(loss.item(), full_oracle(*numpy(s, t)), rtol=1e-10, atol=1e-12)
    mean = full_topology_loss(s, t, reduction="mean")
    torch.testing.assert_close(mean, loss / max(b, 1) ** 2)
    (gradient,) = torch.autograd.grad(loss, s)
    s_hat, t_hat = (x / x.norm(dim=1, keepdim=True) for x in (s, t))
    (expected,) = torch.autograd.grad(((t_hat @ t_hat.T - s_hat @ s_hat.T) ** 2).sum(), s)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-10)


# A block of the symmetric product, one of it less and more, several, and a last one of a column.
@pytest.mark.parametrize("d_t", [1, 49, 50, 51, 101, 120])
def test_gram_products_of_any_width(d_t):
    s, t = tables(d_t + 5, 3, d_t)
    s_hat, t_hat = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in numpy(s, t))
    expected = np.square(t_hat @ t_hat.T - s_hat @ s_hat.T).sum()
    np.testing.assert_allclose(full_topology_loss(s, t).item(), expected, rtol=1e-10)


@pytest.mark.parametrize("b", [7, 8, 9, 12, 13])  # blocks of four rows, and one more
def test_a_teacher_that_is_scaled_by_blocks(monkeypatch, b):
    monkeypatch.setattr(topology_pairs, "ROW_BLOCK", 4)
    s, t = tables(b, 3, 6)
    loss = full_topology_loss(s, t)
    np.testing.assert_allclose(loss.item(), full_oracle(*numpy(s, t)), rtol=1e-10)
    s_hat, t_hat = (x / x.norm(dim=1, keepdim=True) for x in (s, t))
    (expected,) = torch.autograd.grad(((t_hat @ t_hat.T - s_hat @ s_hat.T) ** 2).sum(), s)
    torch.testing.assert_close(*torch.autograd.grad(loss, s), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("b", [4, 9])
def test_cosines_do_not_see_lengths(b):
    s, t = tables(b, 3, 6)
    length = torch.logspace(-6, 6, b, dtype=torch.double).unsqueeze(1)
    loss, scaled = full_topology_loss(s, t), full_topology_loss(s * length, t / length)
    torch.testing.assert_close(scaled, loss, rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(loss, s)
    long = (s * length).detach().requires_grad_()
    (of_long,) = torch.autograd.grad(full_topology_loss(long, t), long)
    torch.testing.assert_close(of_long * length, gradient, rtol=1e-9, atol=1e-12)
    assert torch.linalg.vecdot(of_long, long.detach()).abs().max() < 1e-12


@pytest.mark.parametrize("b", [4, 9])
def test_gradcheck_of_full_topology(b):
    s, t = tables(b, 3, 6)
    assert torch.autograd.gradcheck(lambda x: full_topology_loss(x, t), s)
    assert torch.autograd.gradcheck(lambda x: full_topology_loss(x, t, reduction="mean"), s)


@given(
    st.integers(1, 12), st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(0, 99)
)
def test_both_levels_of_any_groups(b, d_s, d_t, num_groups, seed):
    s, t = tables(b, d_s, d_t, seed)
    group = torch.from_numpy(np.random.default_rng(seed).integers(0, num_groups, b))
    for level, own, positive, detach in OPTIONS:
        entity, to_group = hierarchical_topology_loss(
            s,
            t,
            group,
            num_groups,
            level=level,
            exclude_own_group=own,
            positive_pairs_only=positive,
            detach_prototypes=detach,
        )
        expected = entity_oracle(*numpy(s, t), group.tolist(), positive)
        np.testing.assert_allclose(entity.item(), expected, rtol=1e-9, atol=1e-10)
        expected = group_oracle(*numpy(s, t), group.tolist(), level, own)
        np.testing.assert_allclose(to_group.item(), expected, rtol=1e-9, atol=1e-10)


# Groups: interleaved with one absent; one that holds all; one member each; users then items.
GROUPS = {
    "mixed": ([0, 3, 0, 0, 1, 3, 0, 0, 3, 0, 1, 0, 0, 0], 5),
    "one": ([2] * 14, 4),
    "singles": (list(range(14))[::-1], 14),
    "users_and_items": ([0, 1, 0, 0, 1, 0, 2, 3, 3, 2, 3, 3, 3, 3], 4),
}


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize(("level", "own", "positive", "detach"), OPTIONS)
def test_gradients_of_both_levels(name, level, own, positive, detach):
    group, num_groups = torch.tensor(GROUPS[name][0]), GROUPS[name][1]
    s, t = tables(14, 3, 5)
    options = {"level": level, "exclude_own_group": own}
    options |= {"positive_pairs_only": positive, "detach_prototypes": detach}
    actual = hierarchical_topology_loss(s, t, group, num_groups, **options)
    expected = dense(s, t, group, num_groups, **options)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
        grads = [
            torch.autograd.grad(v, s, retain_graph=True)[0] if v.requires_grad else 0 * s
            for v in (a, b)
        ]
        torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("positive", [False, True])
def test_gradcheck_of_both_levels(level, positive):
    group = torch.tensor([0, 2, 0, 0, 2, 0, 0, 0])  # six members of d_t = 3: Gram products
    s, t = tables(8, 2, 3)

    def loss(x: Tensor) -> tuple[Tensor, Tensor]:
        return hierarchical_topology_loss(x, t, group, 4, level=level, positive_pairs_only=positive)

    assert torch.autograd.gradcheck(loss, s)


def test_defaults_are_the_paper():
    group, num_groups = torch.tensor(GROUPS["mixed"][0]), 5
    s, t = tables(14, 3, 5)
    expected = hierarchical_topology_loss(
        s,
        t,
        group,
        num_groups,
        level="prototype-entity",
        exclude_own_group=True,
        positive_pairs_only=False,
        detach_prototypes=False,
    )
    assert hierarchical_topology_loss(s, t, group, num_groups) == expected


def test_one_group_of_all_is_the_full_topology():
    s, t = tables(30, 3, 5)
    entity, outside = hierarchical_topology_loss(s, t, torch.zeros(30, dtype=torch.long), 3)
    torch.testing.assert_close(entity, full_topology_loss(s, t), rtol=1e-10, atol=0)
    assert outside == 0  # nobody is outside the only group


def test_groups_of_one_have_no_entity_loss():
    s, t = tables(14, 3, 5)
    entity, _ = hierarchical_topology_loss(s, t, torch.arange(14), 20)
    assert entity.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("b", [8, 40, 2000])
@pytest.mark.parametrize(("dtype", "per_pair"), [(torch.float64, 1e-15), (torch.float32, 2e-8)])
def test_a_rotated_teacher_costs_nothing(b, dtype, per_pair):
    # All cosines agree, so the three norms of the identity cancel; what is left is rounding.
    t = torch.randn(b, 16, dtype=torch.double)
    rotation = torch.linalg.qr(torch.randn(16, 16, dtype=torch.double)).Q
    s = (3 * t @ rotation).to(dtype).requires_grad_()
    loss = full_topology_loss(s, t.to(dtype))
    assert 0 <= loss.item() <= per_pair * b * b
    (gradient,) = torch.autograd.grad(loss, s)
    assert gradient.abs().max().item() <= 100 * torch.finfo(dtype).eps * b


@pytest.mark.parametrize("b", [8, 1000])
def test_a_nearly_rotated_teacher_in_float32(b):
    t = torch.randn(b, 16, dtype=torch.double)
    s = t + 0.01 * torch.randn(b, 16, dtype=torch.double)
    exact = full_topology_loss(s, t)
    loss = full_topology_loss(s.float(), t.float())
    torch.testing.assert_close(loss.double(), exact, rtol=1e-2, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_pair_of_cosine_zero_is_not_positive(dtype):
    # Cosines of axes are exact: (0, 1) is 0, (0, 2) is 1, (0, 3) is -1.
    t = torch.tensor([[1.0, 0], [0, 1], [2, 0], [-1, 0]], dtype=dtype)
    s = torch.tensor([[1.0, 1], [1, 0], [1, -1], [1, 2]], dtype=dtype)
    group = torch.zeros(4, dtype=torch.long)
    entity, _ = hierarchical_topology_loss(s, t, group, 1, positive_pairs_only=True)
    # Of the ordered pairs, (0, 2) and (2, 0) are left, and the diagonal, which costs nothing.
    assert entity.item() == pytest.approx(2.0, abs=1e-5)
    every, _ = hierarchical_topology_loss(s, t, group, 1)
    assert every > entity + 1


@pytest.mark.parametrize("b", [7, 8, 30, 35])  # one tile, a second of one row, five, five full
def test_positive_pairs_in_tiles(monkeypatch, b):
    monkeypatch.setattr(topology_pairs, "PAIR_TILE", 7)
    s, t = tables(b, 2, 3)
    group = torch.zeros(b, dtype=torch.long)
    options = {"level": LEVELS[0], "exclude_own_group": True, "detach_prototypes": False}
    actual, _ = hierarchical_topology_loss(s, t, group, 1, positive_pairs_only=True)
    expected, _ = dense(s, t, group, 1, positive_pairs_only=True, **options)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=0)
    grads = [torch.autograd.grad(v, s)[0] for v in (actual, expected)]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("b", [4, 12])
@pytest.mark.parametrize("level", LEVELS)
def test_rows_of_zeros_have_cosine_zero_and_no_gradient(b, level):
    s, t = tables(b, 3, 6)
    s = s.detach().clone()
    s[0], s[2], t[2], t[3] = 0, 0, 0, 0
    s.requires_grad_()
    group = torch.arange(b) % 3 % 2
    s_all, t_all = numpy(s, t)
    full = full_topology_loss(s, t)
    np.testing.assert_allclose(full.item(), full_oracle(s_all, t_all), rtol=1e-10)
    entity, to_group = hierarchical_topology_loss(s, t, group, 2, level=level)
    expected = entity_oracle(s_all, t_all, group.tolist(), False)
    np.testing.assert_allclose(entity.item(), expected, rtol=1e-10)
    expected = group_oracle(s_all, t_all, group.tolist(), level, True)
    np.testing.assert_allclose(to_group.item(), expected, rtol=1e-10)
    for loss in (full, entity):
        (gradient,) = torch.autograd.grad(loss, s, retain_graph=True)
        assert gradient.isfinite().all() and gradient.abs().max() < 1e3
        assert gradient[[0, 2]].eq(0).all()
    (gradient,) = torch.autograd.grad(to_group, s)
    assert gradient.isfinite().all() and gradient.abs().max() < 1e3


@pytest.mark.parametrize("level", LEVELS)
def test_a_group_whose_members_cancel_has_a_finite_gradient(level):
    t = torch.randn(4, 5, dtype=torch.double)
    s = torch.tensor([[1.0, 2], [-1, -2], [1, 0], [0, 3]], dtype=torch.double, requires_grad=True)
    group = torch.tensor([0, 0, 1, 1])
    _, loss = hierarchical_topology_loss(s, t, group, 2, level=level)
    expected = group_oracle(*numpy(s, t), group.tolist(), level, True)
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-10)
    (gradient,) = torch.autograd.grad(loss, s)
    assert gradient.isfinite().all() and gradient.abs().max() < 1e3


def test_the_teacher_gets_no_gradient():
    s, t = tables(9, 3, 5)
    t.requires_grad_()
    entity = full_topology_loss(s, t) + hierarchical_topology_loss(s, t, torch.arange(9) % 2, 2)[0]
    gradients = torch.autograd.grad(entity, (s, t), allow_unused=True)
    assert gradients[0].ne(0).any() and gradients[1] is None


def test_a_teacher_of_another_precision():
    s, t = tables(30, 3, 5)
    s = s.detach().float().requires_grad_()
    loss = full_topology_loss(s, t)
    assert loss.dtype == torch.float32
    np.testing.assert_allclose(loss.item(), full_oracle(*numpy(s, t)), rtol=1e-5)
    loss.backward()
    assert s.grad.dtype == torch.float32


def largest_allocation(run) -> int:
    """The largest single allocation in bytes, inside of operators too."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        run()
    events = prof.profiler.kineto_results.events()
    return max(e.nbytes() for e in events if e.name() == "[memory]")


def test_no_square_matrix_of_entities_is_formed():
    b, d = 3000, 16
    s, t = torch.randn(b, d, requires_grad=True), torch.randn(b, d)
    group = torch.arange(b) % 7 % 3  # groups of 1286 and 857
    table, square = 4 * b * d, 4 * b * b

    def both(**options) -> None:
        entity, to_group = hierarchical_topology_loss(s, t, group, 3, **options)
        (entity + to_group).backward()

    assert largest_allocation(lambda: full_topology_loss(s, t).backward()) <= 2 * table
    assert largest_allocation(both) <= 2 * table
    # Single pairs must be looked at here: a tile at a time, whatever the size of a group.
    tile = 4 * PAIR_TILE**2
    assert largest_allocation(lambda: both(positive_pairs_only=True)) <= tile < square / 30
    # The measure sees what it must see.
    assert largest_allocation(lambda: t @ t.T) == square


def test_operator_keeps_the_rules_of_the_dispatcher():
    s, t = tables(9, 3, 5)
    for end, positive in itertools.product(([9], [0, 2, 9]), (False, True)):
        torch.library.opcheck(grouped_pairs, (s.detach(), t, torch.tensor(end), positive))
    for rows in (3, 9):  # pair by pair, and by Gram products
        torch.library.opcheck(all_pairs, (s.detach()[:rows], t[:rows]))


def test_fake_tensors_run_on_one_device_only():
    with FakeTensorMode():
        s, t = (torch.randn(9, d, device="cuda") for d in (3, 5))
        loss = full_topology_loss(s, t)
        assert loss.shape == () and loss.device.type == "cuda"
        with pytest.raises(RuntimeError, match=r"one device \(got \['cpu', 'cuda:0'\]\)"):
            full_topology_loss(s, torch.randn(9, 5))


@pytest.mark.parametrize("level", LEVELS)
def test_no_step_looks_at_another_device(level):
    s, t = (torch.randn(9, d, device="meta") for d in (3, 5))
    s.requires_grad_()
    group = torch.zeros(9, dtype=torch.long, device="meta")
    for loss in hierarchical_topology_loss(s, t, group, 2, level=level):
        (gradient,) = torch.autograd.grad(loss, s, retain_graph=True)
        assert loss.is_meta and gradient.is_meta and gradient.shape == (9, 3)


@pytest.mark.parametrize("loss", [full_topology_loss, hierarchical_topology_loss])
@pytest.mark.parametrize("shapes", [((3, 2), (4, 2)), ((3,), (3, 2)), ((3, 2), (3,))])
def test_tables_that_do_not_fit(loss, shapes):
    s, t = (torch.ones(shape) for shape in shapes)
    extra = () if loss is full_topology_loss else (torch.zeros(3, dtype=torch.long), 1)
    with pytest.raises(ValueError, match=r"'student' and 'teacher' must be matrices .*\(got"):
        loss(s, t, *extra)


def test_a_group_out_of_range():
    s, t = tables(4, 2, 3)
    with pytest.raises(RuntimeError, match="index 3 is out of bounds"):
        hierarchical_topology_loss(s, t, torch.tensor([0, 1, 3, 1]), 3)


@pytest.mark.parametrize("sizes", [(7, 0), (1, 12), (20, 30)])
def test_products_of_rows_on_two_processes_add_up(sizes):
    tables_of = [tables(size, 3, 5) for size in sizes]
    student, teacher = (torch.cat(side).double() for side in zip(*tables_of, strict=True))
    student = student.detach().requires_grad_()
    known = []  # what each gives is noted first, as if both were there at once
    for s, t in zip(student.split(sizes), teacher.split(sizes), strict=True):
        full_topology_loss(s, t, total=lambda x: known.append(x) or x, num_shares=2)
    both = [
        full_topology_loss(s, t, total=lambda _: sum(known), num_shares=2)
        for s, t in zip(student.split(sizes), teacher.split(sizes), strict=True)
    ]
    a, b = (
        x / np.linalg.norm(x, axis=1)[:, None] for x in (student.detach().numpy(), teacher.numpy())
    )
    assert sum(both).item() == pytest.approx(np.square(b @ b.T - a @ a.T).sum(), rel=1e-10)
    assert both[0].item() == both[1].item()
    (found,) = torch.autograd.grad(sum(both), student)
    (expected,) = torch.autograd.grad(full_topology_loss(student, teacher), student)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("options", [{}, {"exclude_own_group": False, "positive_pairs_only": True}])
@pytest.mark.parametrize("num_shares", [2, 5])
def test_processes_share_groups_and_entities(level, options, num_shares):
    s, t = tables(40, 3, 4)
    s = s.detach().double().requires_grad_()
    group = torch.randint(4, (40,), generator=torch.Generator().manual_seed(num_shares))
    options = {"level": level, **options}
    whole = hierarchical_topology_loss(s, t.double(), group, 4, **options)
    parts = [
        hierarchical_topology_loss(s, t.double(), group, 4, share=(rank, num_shares), **options)
        for rank in range(num_shares)
    ]
    for expected, found in zip(whole, map(sum, zip(*parts, strict=True)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        grads = [torch.autograd.grad(x, s, retain_graph=True)[0] for x in (found, expected)]
        torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-12)


def test_options_that_are_unknown():
    s, t = tables(4, 2, 3)
    group = torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match=r"'level' must be one of .*\(got 'entity'\)"):
        hierarchical_topology_loss(s, t, group, 1, level="entity")
    with pytest.raises(ValueError, match=r"'group' must be \[4\] \(got \[3\]\)"):
        hierarchical_topology_loss(s, t, group[:3], 1)
    with pytest.raises(ValueError, match=r"'reduction' must be .*\(got 'max'\)"):
        full_topology_loss(s, t, reduction="max")
    with pytest.raises(ValueError, match=r"'reduction' must be 'sum' with 'total' \(got 'mean'\)"):
        full_topology_loss(s, t, reduction="mean", total=lambda x: x)
