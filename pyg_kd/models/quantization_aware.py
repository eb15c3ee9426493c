"""A model whose representations are rounded while it is trained, as they are served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice
from pyg_kd.functional.fake_quantize import INTEGERS, Integers, fake_quantize
from pyg_kd.functional.subgraph import Subgraph
from pyg_kd.models.base import Recommender
from pyg_kd.models.mf import MF
from pyg_kd.typing import ITEM, USER, Batch, XDict


class QuantizationAware(Recommender):
    r"""A student that is trained on the numbers that it will be served with, after
    `"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
    <https://arxiv.org/abs/1712.05877>`_.

    The representations of a model are rounded to 255 or 15 levels with a scale for each row, and
    gradients pass as if they were not (:func:`~pyg_kd.functional.fake_quantize`). What a loss, a
    metric or a list of recommendations sees is, bit for bit, what
    ``save_student(student, path, graph=graph, dtype="int4")`` stores: at width 20, 22 bytes a row
    for int8 and 12 for int4. A model that propagates, like :class:`~pyg_kd.models.LightGCN`, does
    so before it is rounded.

    A student that was trained without rounding and whose lists decide how it is rounded
    (:func:`~pyg_kd.retrieval.tables_at`, which needs no training) has lost less wherever the two
    were compared; this class is for what must not change any more when it is stored.

    The model's score must be an inner product, and its loss must read its representations.

    Args:
        data: The training graph.
        dim: Width of the embeddings.
        model: The class of the model, or what else returns a recommender for ``(data, dim)``.
        dtype: ``"int4"`` (default) or ``"int8"``.
        init_std: Standard deviation of the initial embeddings; by default the model's own.

    Raises:
        TypeError: If ``model`` does not return a recommender.
        ValueError: If ``dtype`` is unknown, the score of the model is not an inner product, or
            its loss does not read representations.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> student = QuantizationAware(data, dim=4)
        >>> student
        QuantizationAware(20, 10, dim=4, dtype='int4', model=MF(20, 10, dim=4))
        >>> len(student(data)["item"][0].unique()) <= 15
        True
    """

    structure: ClassVar[tuple[str, ...]] = ("dtype",)

    def __init__(
        self,
        data: HeteroData,
        dim: int,
        model: Callable[..., Recommender] = MF,
        *,
        dtype: Integers = "int4",
        init_std: float | None = None,
    ) -> None:
        super().__init__(data, dim)
        require_choice(INTEGERS, dtype=dtype)
        self.dtype = dtype
        wide: dict[str, Any] = {} if init_std is None else {"init_std": init_std}
        self.model = model(data, dim, **wide)
        _require_readable(self.model)
        # What the trainer asks a model for is the inner one's to say.
        for name in ("default_loss", "latent"):
            setattr(self, name, getattr(self.model, name))

    @staticmethod
    def of(model: Recommender, data: HeteroData, dtype: Integers = "int4") -> QuantizationAware:
        r"""Go on with a model that has been trained without rounding; it is kept, not copied.

        Args:
            model: A recommender whose score is an inner product.
            data: The training graph.
            dtype: ``"int4"`` or ``"int8"``.

        Example:
            >>> from pyg_kd.datasets import SyntheticInteractions
            >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
            >>> QuantizationAware.of(MF(data, dim=4), data, "int8")
            QuantizationAware(20, 10, dim=4, dtype='int8', model=MF(20, 10, dim=4))
        """
        if not isinstance(model, Recommender):
            raise TypeError(f"'model' must be a Recommender (got {type(model).__name__})")
        model.check_data(data)
        return QuantizationAware(data, model.dim, lambda *_: model, dtype=dtype)

    def reset_parameters(self) -> None:
        """Reinitialise the model inside."""
        self.model.reset_parameters()

    def forward(self, data: HeteroData) -> XDict:
        """The representations of the model inside, rounded."""
        x_dict = self.model(data)
        return {key: fake_quantize(x_dict[key], self.dtype) for key in (USER, ITEM)}

    def tables_of_rows(self) -> dict[str, nn.Parameter]:
        """Those of the model inside."""
        return self.model.tables_of_rows()

    def represent_seeds(self, subgraph: Subgraph) -> XDict:
        """What the model inside computes of the seeds of a sampled subgraph, rounded."""
        x_dict = self.model.represent_seeds(subgraph)
        return {kind: fake_quantize(x, self.dtype) for kind, x in x_dict.items()}

    def own_loss(self, x_dict: XDict, data: HeteroData, batch: Batch) -> Tensor:
        """The loss of the model inside, of rounded representations."""
        return self.model.own_loss(x_dict, data, batch)

    @property
    def out_dim(self) -> int:
        """Width of the representations of the model inside."""
        return self.model.out_dim

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, dtype={self.dtype!r}, model={self.model!r})"


def _require_readable(model: Recommender) -> None:
    if not isinstance(model, Recommender):
        raise TypeError(f"'model' must return a Recommender (got {type(model).__name__})")
    if not model.inner_product:
        raise ValueError(
            f"'model' must score by inner products, which {type(model).__name__} does not"
        )
    if model.default_loss == "own" and not model.own_loss_reads:
        raise ValueError(
            f"'model' must learn from its representations, which the loss of "
            f"{type(model).__name__} does not read"
        )
