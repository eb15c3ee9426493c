"""Adam whose step takes the time of the rows that a batch reads, not that of all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pyg_kd.functional.kernels import scatter_rows
from pyg_kd.functional.row_tables import (
    as_rows,
    end_row_table,
    is_row_table,
    make_row_table,
)
from pyg_kd.graph import check_ids, on_numpy
from pyg_kd.training.quick_step import quick_step
from pyg_kd.training.row_records import in_large_pages, put_rows, take_rows

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
        most: Share of a table's rows. Where a step reads more, all following steps inside of this
            :meth:`deferring` are of all rows, which then takes less time.

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
        most: float = 1.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)
        self.most = most
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
    def advance(self) -> None:
        """A :meth:`step`, without the hooks of optimisers."""
        for table in self.tables.values():
            table.step()
        if not quick_step(self):
            super().step()
        for table in self.tables.values():
            table.follow()

    @torch.no_grad()
    def catch_up(self) -> None:
        """Bring all rows up to date."""
        for table in self.tables.values():
            table.catch_up()

    @contextmanager
    def deferring(self) -> Iterator[None]:
        """Steps of rows nobody reads are deferred inside, and made up for at the end."""
        for parameter, table in self.tables.items():
            table.begin()
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


class _Rows(NamedTuple):
    """Some rows of a table: which, ascending, and their weights and moments."""

    ids: Tensor
    w: Tensor
    m: Tensor
    v: Tensor


class _Table:
    """The deferred steps of one table."""

    def __init__(self, optimizer: RowAdam, parameter: nn.Parameter) -> None:
        self.optimizer, self.parameter = optimizer, parameter
        self.group = next(
            g for g in optimizer.param_groups if any(p is parameter for p in g["params"])
        )
        parameter.data = in_large_pages(parameter.data)
        self.place: NDArray[np.int32] | None = None
        self.begin()

    def begin(self) -> None:
        """All rows are up to date."""
        device = self.parameter.device
        self.first = self.now = self._steps()
        #: The step up to which each row is up to date.
        self.last = torch.full((len(self.parameter),), self.now, dtype=torch.int32, device=device)
        #: The sum of the formula, of rows that were read last at step ``first + place``.
        self.sums = torch.zeros(2 * MEMORY, dtype=torch.double, device=device)
        self.decays = self._powers()
        #: The rows that were read last, since the last step.
        self.held: _Rows | None = None

    def _powers(self) -> tuple[Tensor, Tensor]:
        """What is left of the moments after so many steps without a gradient."""
        age = torch.arange(len(self.sums), dtype=torch.double, device=self.sums.device)
        beta1, beta2 = self.group["betas"]
        return torch.pow(beta1, age), torch.pow(beta2, age)

    def _steps(self) -> int:
        state = self.optimizer.state.get(self.parameter, {})
        return int(state["step"]) if "step" in state else 0

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        state = self.optimizer.state[self.parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=self.parameter.device)
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = in_large_pages(torch.zeros_like(self.parameter.data))
        return state["exp_avg"], state["exp_avg_sq"]

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The distinct rows that are read, up to date, and where the ids are among them."""
        check_ids("index", index, len(self.parameter))
        rows, place = self._distinct(index.flatten())
        # A step writes them back; until then the table is as it was.
        self.held = _Rows(rows, *self._up_to_date(rows))
        return as_rows(self.parameter, rows, self.held.w), place.view(index.shape)

    def _distinct(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The distinct ids, ascending, and the place of each id among them, both int64."""
        if not on_numpy(index):
            found: tuple[Tensor, Tensor] = index.unique(return_inverse=True)
            return found
        # Without the sort of all ids that PyTorch's takes: each writes its own place into a table,
        # and of equal ones, one is found there.
        if self.place is None:
            self.place = np.empty(len(self.parameter), dtype=np.int32)
        ids, place = index.numpy(), self.place
        number = np.arange(len(ids), dtype=np.int32)
        place[ids] = number
        rows = ids[place[ids] == number].astype(np.int64)
        rows.sort()
        place[rows] = number[: len(rows)]
        return torch.from_numpy(rows), torch.from_numpy(place[ids].astype(np.int64))

    def _up_to_date(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights and moments of some rows after the steps so far."""
        w, m, v = (take_rows(x, rows) for x in (self.parameter.data, *self.moments))
        if self.now == self.first:
            return w, m, v
        start = self.last.index_select(0, rows) - self.first
        age = self.now - self.first - start
        factor, decay1, decay2 = (
            table.index_select(0, at).to(w.dtype).unsqueeze(1)
            for table, at in ((self.sums, start), (self.decays[0], age), (self.decays[1], age))
        )
        eps = self.group["eps"] * (1 - self.group["betas"][1] ** self.now) ** 0.5
        w.addcdiv_(m * factor, v.sqrt().add_(eps), value=-1)
        return w, m.mul_(decay1), v.mul_(decay2)

    def catch_up(self) -> None:
        """Bring all rows up to date."""
        self.held = None
        if self.now == self.first:
            return
        for rows in (self.last < self.now).nonzero().squeeze(1).split(1 << 18):
            self._write(_Rows(rows, *self._up_to_date(rows)))
        self.begin()

    def _write(self, rows: _Rows) -> None:
        # Through 'data': autograd may have kept the table.
        tables = (self.parameter.data, *self.moments)
        for x, value in zip(tables, (rows.w, rows.m, rows.v), strict=True):
            put_rows(x, rows.ids, value)
        self.last.index_fill_(0, rows.ids, self.now)

    def step(self) -> None:
        """A step of the rows that have a gradient."""
        grad = self.parameter.grad
        if grad is None:
            return
        if not grad.is_sparse:
            self.catch_up()
            return
        self.parameter.grad = None
        rows, grad = self._rows_of(grad)
        (beta1, beta2), lr = self.group["betas"], self.group["lr"]
        self.optimizer.state[self.parameter]["step"] += 1
        self._advance(lr)
        _, w, m, v = rows
        if self.group["weight_decay"]:
            grad = grad + self.group["weight_decay"] * w
        m.lerp_(grad, 1 - beta1)
        v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        root = v.sqrt().div_((1 - beta2**self.now) ** 0.5).add_(self.group["eps"])
        w.addcdiv_(m, root, value=-lr / (1 - beta1**self.now))
        self._write(rows)
        if len(rows.ids) > self.optimizer.most * len(self.parameter):
            self.catch_up()
            end_row_table(self.parameter)

    def _rows_of(self, grad: Tensor) -> tuple[_Rows, Tensor]:
        """The rows with a gradient, up to date, and their gradients."""
        index, value, held = grad._indices()[0], grad._values(), self.held
        self.held = None
        if held is not None and torch.equal(index, held.ids):
            return held, value
        # Several were read for one step.
        if on_numpy(index):
            index, place = self._distinct(index)
            value = scatter_rows(value, place, len(index))
        else:
            grad = grad.coalesce()
            index, value = grad.indices()[0], grad.values()
        return _Rows(index, *self._up_to_date(index)), value

    def _advance(self, lr: float) -> None:
        """Count a step, and add it to the sums of the rows that were read before it."""
        beta1, beta2 = self.group["betas"]
        self.now += 1
        done = self.now - self.first
        if done >= len(self.sums):
            self.sums = torch.cat([self.sums, torch.zeros_like(self.sums)])
            self.decays = self._powers()
        size = lr * (1 - beta2**self.now) ** 0.5 / (1 - beta1**self.now)
        start = max(done - MEMORY, 0)
        age = torch.arange(done - start, 0, -1, dtype=torch.double, device=self.sums.device)
        self.sums[start:done] += size * torch.pow(beta1 / beta2**0.5, age)

    def follow(self) -> None:
        """After a step of all rows by Adam itself, all are up to date."""
        if is_row_table(self.parameter) and self._steps() != self.now:
            self.begin()
