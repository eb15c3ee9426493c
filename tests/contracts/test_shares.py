"""What processes make of their shares of a batch adds up to what one makes of the whole batch."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pyg_kd.training import BPR, CatalogueSoftmax, SampledSoftmax
from pyg_kd.typing import Batch

NUM_SHARES = 3

Term = Callable[[dict[str, Tensor], Batch], Tensor]

LOSSES = {
    "bpr": BPR,
    "sampled_softmax": SampledSoftmax,
    "in_batch": lambda: SampledSoftmax(negatives="in_batch"),
    "both": lambda: SampledSoftmax(normalize=False, negatives="both"),
    "catalogue": lambda: CatalogueSoftmax(num_items=20),
}


class AnotherIsNeeded(Exception):
    """A sum that is known once all processes have given their part."""


class Totals:
    """The sums over processes that one after another asks for, as if all were there at once."""

    def __init__(self) -> None:
        self.known: list[Tensor] = []
        self.given: list[Tensor] = []

    def ask(self) -> Callable[[Tensor], Tensor]:
        """What a process is given: it has not asked for anything yet."""
        known = iter(self.known)

        def total(x: Tensor) -> Tensor:
            for found in known:
                return found.clone()
            self.given.append(x.clone())
            raise AnotherIsNeeded

        return total

    def shares(self, run: Callable[[int, Callable[[Tensor], Tensor]], Tensor]) -> list[Tensor]:
        """What each process computes."""
        while True:
            found: list[Tensor] = []
            for rank in range(NUM_SHARES):
                try:
                    found.append(run(rank, self.ask()))
                except AnotherIsNeeded:
                    continue
            if len(found) == NUM_SHARES:
                return found
            assert not found and len(self.given) == NUM_SHARES, "not every process has asked"
            self.known.append(torch.stack(self.given).sum(0))
            self.given.clear()


def check(world, owner: nn.Module, term: Term, batch: Batch) -> None:
    parameters = list(owner.parameters())
    expected, found = (
        {key: x.detach().double().requires_grad_() for key, x in world.x_dict().items()}
        for _ in range(2)
    )
    loss = term(expected, batch)
    ends = [*expected.values(), *parameters]
    grads = torch.autograd.grad(loss, ends, materialize_grads=True)
    share = Totals().shares(lambda *place: term(found, batch.share(place[0], NUM_SHARES, place[1])))
    total = torch.stack(share).sum()
    torch.testing.assert_close(total, loss, rtol=1e-10, atol=1e-10)
    if loss.requires_grad:
        ends = [*found.values(), *parameters]
        of_shares = torch.autograd.grad(total, ends, materialize_grads=True)
        for own, whole in zip(of_shares, grads, strict=True):
            torch.testing.assert_close(own, whole, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("size", [48, 2])
def test_methods(make, world, size: int) -> None:
    # In float32 sums differ by the order that kernels choose for a number of rows.
    world, batch = copy.copy(world), world.batch
    world.graph = world.copy()
    for node_type in ("user", "item"):
        world.graph[node_type].teacher_x = world.graph[node_type].teacher_x.double()
    method = world.bind(make).double()
    batch = Batch(batch.user[:size], batch.positive[:size], batch.negative[:size])
    check(world, method, lambda x_dict, part: world.loss(method, x_dict, part), batch)


@pytest.mark.parametrize("name", LOSSES)
def test_base_losses(name: str, world) -> None:
    loss = LOSSES[name]()

    def term(x_dict: dict[str, Tensor], batch: Batch) -> Tensor:
        torch.manual_seed(1)
        reads_graph = getattr(loss, "reads_graph", False)
        value: Tensor = loss(x_dict, world.graph, batch) if reads_graph else loss(x_dict, batch)
        return value

    check(world, loss, term, world.batch)
