"""The moving average of a model's weights, which is what is served."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import expm1

import torch
from torch import Tensor, nn


class WeightAverage:
    r"""An exponential moving average of the weights over the steps of a run.

    .. math::
        \bar w_t = \frac{\sum_{s=1}^{t} \beta^{t-s} w_s}{\sum_{s=1}^{t} \beta^{t-s}}, \qquad
        \beta = e^{-1 / (\text{span} \cdot \text{steps})}

    with the steps counted from the end of the warm-up, so that nothing of the initial weights is
    in it. It holds one copy of the trained parameters, in float32 at least, from its first step
    on, and nothing without a span.

    Args:
        model: The model, whose weights are read at every :meth:`update`.
        span: Epochs that the average looks back; ``None`` for no average.
        steps: Steps of an epoch.
        first: The first step that counts, from 0.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> average = WeightAverage(model, span=1.0, steps=1)
        >>> for step, weight in enumerate((0.0, 3.0)):
        ...     _ = nn.init.constant_(model.weight, weight)
        ...     average.update(step)
        >>> with average.applied():
        ...     round(model.weight.item(), 6)
        2.193176
        >>> model.weight.item()
        3.0
    """

    def __init__(
        self, model: nn.Module, span: float | None, steps: int = 1, first: int = 0
    ) -> None:
        self.model, self.span, self.steps, self.first = model, span, steps, first
        self.tensors: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, which is numbered from 0."""
        count = step - self.first + 1
        if self.span is None or count < 1:
            return
        if not self.tensors:
            self.tensors = {name: x.clone() for name, x in self._weights()}
            return
        rate = self.rate(count)
        for name, x in self._weights():
            self.tensors[name].lerp_(x, rate)

    def rate(self, count: int) -> float:
        r"""The share of the newest weights, :math:`(1 - \beta) / (1 - \beta^t)`."""
        assert self.span is not None
        age = max(1 / (self.span * self.steps), 1e-300)  # of an endless span, a plain mean
        return expm1(-age) / expm1(-age * count)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the average inside, if there is one, and its own weights after."""
        kept = {name: x.detach().clone() for name, x in self._trained() if self.tensors}
        self._set(self.tensors)
        try:
            yield
        finally:
            self._set(kept)

    def settle(self) -> None:
        """Leave the average in the model for good."""
        self._set(self.tensors)
        self.drop()

    def drop(self) -> None:
        """Forget the average."""
        self.tensors = {}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what ``tensors`` was when it was saved."""
        devices = {name: x.device for name, x in self._trained()}
        self.tensors = {name: x.to(devices[name]) for name, x in tensors.items()}

    def expected(self) -> dict[str, Tensor]:
        """Tensors of the names, shapes and types of the average, without values."""
        return {name: x.to("meta") for name, x in self._weights()}

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, x) for name, x in self.model.named_parameters() if x.requires_grad)

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        """The weights, wide enough for small steps: they would be lost in half precision."""
        for name, x in self._trained():
            yield name, x.detach().to(torch.promote_types(x.dtype, torch.float32))

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, x in self._trained():
            if name in values:
                x.copy_(values[name])
