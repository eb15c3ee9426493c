"""What a student takes over from its teacher, epoch by epoch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count
from pyg_kd.graph import interactions
from pyg_kd.knowledge.requirements import knowledge_key
from pyg_kd.loader import InteractionLoader
from pyg_kd.models.inference import best_unseen
from pyg_kd.training.diagnostics.measures import (
    Reference,
    balance,
    conflicts,
    of_lists,
    of_space,
    reference_of,
)
from pyg_kd.training.objective import Objective
from pyg_kd.training.observer import Observer
from pyg_kd.typing import ITEM, USER, Batch


class Diagnostics(Observer):
    r"""A callback that adds columns to the history, every few epochs; training stays the same.

    Of the student and its teacher, where the graph carries the teacher's lists or representations:

    * ``"overlap@20"``, ``"rbo"``: mean agreement of their lists, over a sample of users
      (:func:`~pyg_kd.metrics.agreement.overlap_at_k`,
      :func:`~pyg_kd.metrics.agreement.rank_biased_overlap`).
    * ``"neighbours user"``, ``"neighbours item"``: the mean share of common nearest neighbours
      (:func:`~pyg_kd.metrics.agreement.neighbourhood_agreement`).
    * ``"cka user"``, ``"cka item"``: the likeness of their spaces
      (:func:`~pyg_kd.metrics.agreement.cka`, debiased).

    Of the student alone, for users and items each:

    * ``"effective rank"``, ``"top variance"`` and ``"uniformity"``: how many directions it uses
      (:mod:`pyg_kd.metrics.agreement`), all of which show a collapse.

    Of the methods, under the names of their own columns:

    * ``"conflict M"``: the cosine between the gradients of the base loss and of method ``M`` with
      respect to the student's parameters, on one batch that is always the same, in evaluation
      mode: below 0 they pull apart.
    * ``"pull M"``: the norm of the method's weighted gradient over that of the base loss. A method
      far below 1 hardly teaches, one far above drowns the data.
    * ``"experts M user"``, ``"groups M user"``, and the same for items: the number of experts, or
      of groups of topology distillation, that would be as unequal if they were equal,
      :math:`\exp H` of the shares of entities they get: 1 if one gets all.

    A measurement of CiteULike, 5,219 users and 25,181 items, takes a CPU 1.5 seconds, more than an
    epoch of a narrow model: ``every`` is for that.

    Args:
        every: Epochs between two measurements; the first is after the first epoch.
        k: Items of an overlap.
        depth: Items of the lists that rank-biased overlap compares, at most.
        num_neighbours: Nearest neighbours.
        num_entities: How many users have their lists, and users and items each their neighbours,
            compared, at most.
        num_interactions: Interactions of the batch whose gradients are compared; 0 for none.
        seed: Of the sample and of the batch. The global random state is not touched.

    Raises:
        ValueError: If an option is not an integer, or out of range.

    Example:
        >>> from pyg_kd import RelaxedRankingDistillation, Trainer, extract_knowledge
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.models import EASE, MF
        >>> data = SyntheticInteractions(num_users=60, num_items=40, num_edges=600)[0]
        >>> graph = extract_knowledge(EASE(data), data, num_items=20)
        >>> history = Trainer(max_epochs=2, progress=False).fit(
        ...     MF(data, dim=4),
        ...     graph,
        ...     distillations=[(RelaxedRankingDistillation(num_interesting=5), 0.1)],
        ...     callbacks=[Diagnostics()],
        ... )
        >>> [name for name in history.columns if "RelaxedRankingDistillation" in name][1:]
        ['conflict RelaxedRankingDistillation', 'pull RelaxedRankingDistillation']
        >>> len(history["rbo"])
        2
    """

    def __init__(
        self,
        *,
        every: int = 1,
        k: int = 20,
        depth: int = 100,
        num_neighbours: int = 10,
        num_entities: int = 1000,
        num_interactions: int = 4096,
        seed: int = 0,
    ) -> None:
        require_count(
            every=every,
            k=k,
            depth=depth,
            num_neighbours=num_neighbours,
            num_entities=num_entities,
        )
        require_count(0, num_interactions=num_interactions)
        self.every, self.k, self.depth = every, k, depth
        self.num_neighbours, self.num_entities = num_neighbours, num_entities
        self.num_interactions, self.seed = num_interactions, seed
        self._known: tuple[tuple[str, ...], torch.device, Reference] | None = None

    @torch.no_grad()
    def observe(self, epoch: int, objective: Objective, data: HeteroData) -> dict[str, float]:
        """Measure, if it is time to; nothing else changes."""
        if epoch % self.every:
            return {}
        with torch.random.fork_rng():
            known, model = self._reference(data), objective.model
            lists, _ = best_unseen(model, data, known.depth, known.users)
            found = of_lists(lists, known, self.k)
            for node_type, x in model(data).items():
                if node_type in (USER, ITEM):
                    found |= of_space(node_type, x, known, self.num_neighbours)
            for name, method in zip(objective.names, objective.distillations, strict=True):
                found |= balance(name, method, data)
            if self.num_interactions and objective.distillations:
                found |= conflicts(objective, data, self._batch(data))
        return found

    def _reference(self, data: HeteroData) -> Reference:
        """What is known of the teacher of a graph, worked out once."""
        device = interactions(data).edge_index.device
        key = (*knowledge_key(data), *(str(size) for size in interactions(data)[1:]))
        if self._known is None or self._known[:2] != (key, device):
            known = reference_of(
                data, self._sample(data, USER), self._sample(data, ITEM), self.depth,
                self.num_neighbours,
            )  # fmt: skip
            self._known = (key, device, known)
        return self._known[2]

    def _sample(self, data: HeteroData, node_type: str) -> Tensor:
        """Some entities with interactions, ascending."""
        edges = interactions(data)
        side = edges.by_user() if node_type == USER else edges.by_item()
        known = side.degree.nonzero().squeeze(1)
        generator = torch.Generator("cpu").manual_seed(self.seed)
        chosen = torch.randperm(len(known), generator=generator, device="cpu")[: self.num_entities]
        return known[chosen.sort().values.to(known.device)]

    def _batch(self, data: HeteroData) -> Batch:
        """The batch whose gradients are compared, the same at every epoch."""
        return next(iter(InteractionLoader(data, self.num_interactions, seed=self.seed)))

    def __repr__(self) -> str:
        names = ("every", "k", "depth", "num_neighbours", "num_entities", "num_interactions")
        return f"Diagnostics({', '.join(f'{n}={getattr(self, n)}' for n in (*names, 'seed'))})"
