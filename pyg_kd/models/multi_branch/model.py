"""A model with several objectives, each with its own branch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice
from pyg_kd.functional.consensus import Head
from pyg_kd.functional.edge_scores import edge_scores
from pyg_kd.functional.sparse import gather_rows
from pyg_kd.models.base import Recommender
from pyg_kd.models.layers import require_dropout
from pyg_kd.models.multi_branch.branch import HEADS, VARIANTS, Branch, HeadName, Variant
from pyg_kd.models.multi_branch.losses import Observed, branch_losses
from pyg_kd.models.multi_branch.reference_weights import BranchVectors, ReferenceWeights
from pyg_kd.models.multi_branch.views import Consensus, HeadView
from pyg_kd.models.multi_branch.weights import BranchWeights
from pyg_kd.typing import ITEM, USER, Batch, XDict


class MultiBranch(Recommender):
    r"""The model of `"Consensus Learning from Heterogeneous Objectives for One-Class
    Collaborative Filtering" <https://arxiv.org/abs/2202.13140>`_ (ConCF).

    All objectives share one embedding table for users and one for items; on top of these, each has
    its own branch (:class:`~pyg_kd.models.multi_branch.branch.Branch`). The loss is

    .. math::
        L = \sum_x w_x L_x

    with sums over the triples of a batch for ``"bpr"``, ``"cml"`` (hinge of margin 1 on squared
    distances), ``"bce"`` and ``"mse"`` (targets 1 and 0). ``"multinomial"`` sums
    :math:`- \sum_{i \in N_u} \log \operatorname{softmax}(s_u)_i`, with a softmax over the whole
    catalogue, over the unique users of the batch; ``"item_multinomial"`` does the same for its
    unique positive items, over all users. The weights are balanced by gradient norms
    (:class:`~pyg_kd.models.multi_branch.weights.BranchWeights`); before each batch they are scaled
    to a mean of one and kept at 0.01 or more.

    ``model(data)`` concatenates the vectors of all heads; :attr:`layout` gives their columns.
    The model scores by its first head; :meth:`head` returns a recommender for any single head, and
    :meth:`consensus` one for all of them together.

    ``variant="reference"`` follows the authors' code, where

    * users and items share the network of a branch, the first four heads have biases, and
      ``"cml"`` has a linear layer. The default is the branch that the paper describes.
    * ``"item_multinomial"`` is a sixth head and sums over the unique positives *and* negatives
      of a batch. The default sums over the positives only: the items of the batch's
      interactions, just as the user side sums over their users.
    * the weights follow :class:`~pyg_kd.models.multi_branch.reference_weights.ReferenceWeights`:
      without weight decay, with the gradient of the consensus loss in the balance, and with
      initial losses taken after 11 epochs. The default balances only the model's own objectives,
      so its weights do not depend on what else is trained with it, and reads only the embeddings
      of a batch, whereas the reference variant computes gradients of whole tables.
    * embeddings start with a standard deviation of 0.01.

    Both draw dropout once per user and item of a batch; the authors' code draws it for every
    occurrence.

    Args:
        data: The training graph.
        dim: Width of the embeddings.
        heads: The objectives. By default the paper's five, which exclude
            ``"item_multinomial"``; in the reference variant all six.
        dropout: Probability of dropping a hidden unit in training.
        balance: Whether to learn the weights of the branches; otherwise all of them are one.
        init_std: Standard deviation of the initial embeddings. By default 0.1, in the reference
            variant 0.01.
        variant: ``"paper"`` (default), or ``"reference"`` for the model of the authors' code.

    Raises:
        ValueError: If a head is unknown or named twice, or an option is out of range.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
        >>> model = MultiBranch(data, dim=8, heads=("bpr", "multinomial"))
        >>> model.head("multinomial")(data)["item"].shape
        torch.Size([10, 3])
    """

    default_loss: ClassVar[str] = "own"
    inner_product: ClassVar[bool] = False
    own_loss_reads: ClassVar[bool] = False
    structure: ClassVar[tuple[str, ...]] = ("heads", "variant")

    def __init__(
        self,
        data: HeteroData,
        dim: int = 64,
        *,
        heads: Sequence[HeadName] | None = None,
        dropout: float = 0.1,
        balance: bool = True,
        init_std: float | None = None,
        variant: Variant = "paper",
    ) -> None:
        require_choice(VARIANTS, variant=variant)
        reference = variant == "reference"
        if init_std is None:
            init_std = 0.01 if reference else 0.1
        super().__init__(data, dim, init_std)
        if heads is None:
            heads = HEADS if reference else HEADS[:5]
        if not heads or set(heads) - set(HEADS) or len(set(heads)) < len(heads):
            raise ValueError(f"'heads' must be some of {HEADS}, each once (got {heads!r})")
        require_dropout(dropout)
        self.dropout, self.balance, self.variant = dropout, balance, variant
        sizes = dim, self.num_users, self.num_items
        branches = [Branch(name, *sizes, dropout, variant) for name in heads]
        self.branches = nn.ModuleList(branches)
        self.weights = (ReferenceWeights if reference else BranchWeights)(len(branches), balance)
        #: Where to find the vectors of each head.
        self.layout = _layout(branches)

    #: Weights of the branches follow from the norms of their gradients over the whole batch.
    own_loss_splits = False

    def reset_parameters(self) -> None:
        """Reinitialise all parameters and reset the weights of the branches."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, (Branch, BranchWeights, ReferenceWeights)):
                module.reset_parameters()

    @property
    def heads(self) -> tuple[str, ...]:
        """The names of the heads, in order."""
        return tuple(head.name for head in self.layout)

    @property
    def out_dim(self) -> int:
        """Width of all heads together."""
        return self.layout[-1].stop

    def forward(self, data: HeteroData) -> XDict:
        """The vectors of all heads, concatenated."""
        self.check_data(data)
        tables = self.user_embedding, self.item_embedding
        if not (isinstance(self.weights, ReferenceWeights) and torch.is_grad_enabled()):
            return self._vectors([tables] * len(self.branches))
        inputs = self.weights.inputs(*tables)
        return BranchVectors(self._vectors(inputs.other), inputs)

    def _vectors(self, inputs: Sequence[tuple[Tensor, Tensor]]) -> XDict:
        parts = [branch(*pair) for branch, pair in zip(self.branches, inputs, strict=True)]
        x_user, x_item = (torch.cat(side, 1) for side in zip(*parts, strict=True))
        return {USER: x_user, ITEM: x_item}

    def own_loss(self, x_dict: XDict, data: HeteroData, batch: Batch) -> Tensor:
        """The weighted sum of the objectives, computed for the users and items of the batch.

        ``x_dict`` is not read. The reference variant, however, balances the gradients that flow
        through it, so it must be the one that other losses of the step use.
        """
        if isinstance(self.weights, ReferenceWeights):
            return self._reference_loss(self.weights, x_dict, data, batch)
        user = gather_rows(self.user_embedding, batch.unique_users)
        item = gather_rows(self.item_embedding, batch.unique_items)
        # Separate tensors for each branch, so that their gradients can be told apart.
        inputs = [(user.view_as(user), item.view_as(item)) for _ in self.branches]
        losses = self._losses(inputs, data, batch)
        parameters = [list(branch.parameters()) for branch in self.branches]
        total: Tensor = self.weights(losses, inputs, parameters)
        return total

    def _reference_loss(
        self, weights: ReferenceWeights, x_dict: XDict, data: HeteroData, batch: Batch
    ) -> Tensor:
        inputs = (
            x_dict.inputs
            if isinstance(x_dict, BranchVectors)
            else weights.inputs(self.user_embedding, self.item_embedding)
        )
        rows = [
            (gather_rows(user, batch.unique_users), gather_rows(item, batch.unique_items))
            for user, item in inputs.objective
        ]
        losses = self._losses(rows, data, batch, with_negatives=True)
        num_visits = self.cached(data, Observed.of).num_visits
        total: Tensor = weights(losses, inputs, len(batch), num_visits)
        return total

    def _losses(
        self,
        inputs: Sequence[tuple[Tensor, Tensor]],
        data: HeteroData,
        batch: Batch,
        **options: bool,
    ) -> Tensor:
        """The loss of every branch, from the embeddings of the batch's users and items."""
        observed, names = self.cached(data, Observed.of), [head.name for head in self.layout]
        vectors = [branch(*pair) for branch, pair in zip(self.branches, inputs, strict=True)]
        return branch_losses(names, vectors, batch, observed, **options)

    def branch_weights(self, names: Sequence[str]) -> Tensor:
        """The weights of some branches, by name, without gradient."""
        return self.weights.value.detach()[[self._place(name) for name in names]]

    def _place(self, name: str) -> int:
        names = tuple(head.name for head in self.layout)
        require_choice(names, name=name)
        return names.index(name)

    def head(self, name: str) -> HeadView:
        """One head as a recommender, which shares the model's parameters."""
        return HeadView(self, self.layout[self._place(name)])

    def consensus(self, *, num_listed: int = 100, temperature: float = 10.0) -> Consensus:
        """All heads as one recommender, a :class:`~pyg_kd.models.multi_branch.views.Consensus`."""
        return Consensus(self, self.layout, num_listed=num_listed, temperature=temperature)

    def score(self, x_dict: XDict, edge_index: Tensor) -> Tensor:
        """Scores of the first head, ``[E]``."""
        return edge_scores(*self.layout[0].vectors(x_dict[USER], x_dict[ITEM]), edge_index)

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        """Scores of the first head, ``[b, t]``."""
        user, item = self.layout[0].vectors(x_user, x_item)
        return user @ item.t()

    def __repr__(self) -> str:
        heads = ", ".join(head.name for head in self.layout)
        options = f"heads=[{heads}], dropout={self.dropout}, balance={self.balance}"
        if self.variant != "paper":
            options += f", variant={self.variant!r}"
        return f"{super().__repr__()[:-1]}, {options})"


def _layout(branches: Sequence[Branch]) -> tuple[Head, ...]:
    heads: list[Head] = []
    for branch in branches:
        start = heads[-1].stop if heads else 0
        heads.append(Head(branch.name, start, start + branch.width, branch.kind))
    return tuple(heads)
