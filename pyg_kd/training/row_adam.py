"""Adam whose step takes the time of the rows that a batch reads, not that of all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pyg_kd.functional.row_tables import end_row_table, make_row_table
from pyg_kd.functional.sampling import distinct_ids

#: Steps after which the momentum of a row that is not read has come to nothing: with the usual
#: betas, (.9 / .9995)^256 is 2e-12.
MEMORY = 256


class RowAdam(torch.optim.Adam):
    r"""`Adam <https://arxiv.org/abs/1412.6980>`_ that defers the steps of rows nobody reads.

    A row without a gradient still moves under Adam, by its momentum. From moments :math:`m, v` at
    step :math:`s` to step :math:`t`, with no gradient between,

    .. math::
        w_t = w_s - \frac{m}{\sqrt v + \epsilon'} \sum_{j=1}^{t-s} \rho^j h_{s+j}, \qquad
        m_t = \beta_1^{t-s} m, \quad v_t = \beta_2^{t-s} v, \\
        \rho = \beta_1 / \sqrt{\beta_2}, \qquad h_i = \eta_i \sqrt{1 - \beta_2^i} / (1 - \beta_1^i)

    where :math:`\eta_i` is the learning rate of step :math:`i`. The sum depends on :math:`s` and
    :math:`t` alone. So a row is brought up to date when it is read, in one go, and all rows are
    by :meth:`catch_up`, after which parameters and moments are those of Adam, up to rounding and
    :math:`\epsilon`: :math:`\epsilon' = \epsilon \sqrt{1 - \beta_2^t}` decays with :math:`v` here
    and not there. Weight decay counts in the steps that read a row, and in no others.

    This holds inside of :meth:`deferring`. Outside, and for other parameters, it is Adam as it is.

    Args:
        params: Parameters or groups of them, as for :class:`torch.optim.Adam`.
        tables: Those among them, ``[n, d]``, whose rows are read by
            :func:`~pyg_kd.functional.gather_rows` and
            :func:`~pyg_kd.functional.list_scores` only.
        lr: Learning rate.
        betas: Decay of the two moments.
        eps: :math:`\epsilon`.
        weight_decay: L2 penalty of the rows that are read.

    Example:
        >>> from pyg_kd.functional import gather_rows
        >>> table = nn.Parameter(torch.ones(1000, 2))
        >>> optimizer = RowAdam([table], [table], lr=0.5)
        >>> with optimizer.deferring():
        ...     gather_rows(table, torch.tensor([3])).sum().backward()
        ...     optimizer.step()
        >>> table.detach()[2:4]
        tensor([[1.0000, 1.0000],
                [0.5000, 0.5000]])
    """

    def __init__(
        self,
        params: Iterable[Any],
        tables: Sequence[nn.Parameter],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)
        self.tables = {table: _Table(self, table) for table in tables}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for table in self.tables.values():
            table.step()
        # Tables have no gradient now, unless it is dense: then they are like all others.
        super().step()
        for table in self.tables.values():
            table.follow()
        return loss

    @torch.no_grad()
    def catch_up(self) -> None:
        """Bring all rows up to date."""
        for table in self.tables.values():
            table.catch_up()

    @contextmanager
    def deferring(self) -> Iterator[None]:
        """Steps of rows nobody reads are deferred inside, and made up for at the end."""
        for parameter, table in self.tables.items():
            make_row_table(parameter, table.read)
        try:
            yield
        finally:
            self.catch_up()
            for parameter in self.tables:
                end_row_table(parameter)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state, of this optimiser or of :class:`torch.optim.Adam`."""
        super().load_state_dict(state_dict)
        for table in self.tables.values():
            table.begin()


class _Table:
    """The deferred steps of one table."""

    def __init__(self, optimizer: RowAdam, parameter: nn.Parameter) -> None:
        self.optimizer, self.parameter = optimizer, parameter
        self.group = next(
            g for g in optimizer.param_groups if any(p is parameter for p in g["params"])
        )
        self.begin()

    def begin(self) -> None:
        """All rows are up to date."""
        device = self.parameter.device
        self.first = self.now = self._steps()
        #: The step up to which each row is up to date.
        self.last = torch.full((len(self.parameter),), self.now, dtype=torch.int32, device=device)
        #: The sum of the formula, of rows that were read last at step ``first + place``.
        self.sums = torch.zeros(2 * MEMORY, dtype=torch.double, device=device)

    def _steps(self) -> int:
        state = self.optimizer.state.get(self.parameter, {})
        return int(state["step"]) if "step" in state else 0

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        state = self.optimizer.state[self.parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=self.parameter.device)
            state["exp_avg"] = torch.zeros_like(self.parameter)
            state["exp_avg_sq"] = torch.zeros_like(self.parameter)
        return state["exp_avg"], state["exp_avg_sq"]

    @torch.no_grad()
    def read(self, index: Tensor) -> None:
        """Bring the rows that are about to be read up to date."""
        if self.now == self.first:  # before the first step of an epoch all rows are
            return
        index = index.flatten().clamp(min=0)
        if index.numel() * 8 > len(self.parameter):
            rows = distinct_ids(index, len(self.parameter))
        else:
            rows = index.unique()
        self._update(rows[self.last[rows] < self.now])

    def catch_up(self) -> None:
        """Bring all rows up to date."""
        if self.now == self.first:
            return
        for rows in (self.last < self.now).nonzero().squeeze(1).split(1 << 18):
            self._update(rows)
        self.begin()

    def _update(self, rows: Tensor) -> None:
        beta1, beta2 = self.group["betas"]
        first, second = self.moments
        last = self.last[rows]
        age = (self.now - last).unsqueeze(1).to(first.dtype)
        factor = self.sums[last.long() - self.first].to(first.dtype).unsqueeze(1)
        # Several times as fast as indexing.
        w, m, v = (x.index_select(0, rows) for x in (self.parameter, first, second))
        eps = self.group["eps"] * (1 - beta2**self.now) ** 0.5
        w.addcdiv_(m * factor, v.sqrt().add_(eps), value=-1)
        m.mul_(torch.pow(beta1, age))
        v.mul_(torch.pow(beta2, age))
        self._write(rows, w, m, v)

    def _write(self, rows: Tensor, w: Tensor, m: Tensor, v: Tensor) -> None:
        # Through 'data', as rows that were read before in this step, which its backward pass may
        # have kept the table for, stay as they are.
        for x, value in zip((self.parameter.data, *self.moments), (w, m, v), strict=True):
            x.index_copy_(0, rows, value)
        self.last.index_fill_(0, rows, self.now)

    def step(self) -> None:
        """A step of the rows that have a gradient."""
        grad = self.parameter.grad
        if grad is None:
            return
        if not grad.is_sparse:
            self.catch_up()
            return
        self.parameter.grad = None
        grad = grad.coalesce()
        rows, grad = grad.indices()[0], grad.values()
        (beta1, beta2), lr = self.group["betas"], self.group["lr"]
        first, second = self.moments
        self.optimizer.state[self.parameter]["step"] += 1
        self._advance(lr)
        w, m, v = (x.index_select(0, rows) for x in (self.parameter, first, second))
        if self.group["weight_decay"]:
            grad = grad + self.group["weight_decay"] * w
        m.lerp_(grad, 1 - beta1)
        v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        root = v.sqrt().div_((1 - beta2**self.now) ** 0.5).add_(self.group["eps"])
        w.addcdiv_(m, root, value=-lr / (1 - beta1**self.now))
        self._write(rows, w, m, v)

    def _advance(self, lr: float) -> None:
        """Count a step, and add it to the sums of the rows that were read before it."""
        beta1, beta2 = self.group["betas"]
        self.now += 1
        done = self.now - self.first
        if done >= len(self.sums):
            self.sums = torch.cat([self.sums, torch.zeros_like(self.sums)])
        size = lr * (1 - beta2**self.now) ** 0.5 / (1 - beta1**self.now)
        start = max(done - MEMORY, 0)
        age = torch.arange(done - start, 0, -1, dtype=torch.double, device=self.sums.device)
        self.sums[start:done] += size * torch.pow(beta1 / beta2**0.5, age)

    def follow(self) -> None:
        """After a step of all rows by Adam itself, all are up to date."""
        if self._steps() != self.now:
            self.begin()
