"""FreqD: match student and teacher after a graph filter that favours low frequencies."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize
from torch_geometric.data import HeteroData
from torch_geometric.index import index2ptr

from pyg_kd.checks import require_choice, require_count
from pyg_kd.distill.base import Distillation
from pyg_kd.functional.co_interactions import among_largest, co_interactions, ranked
from pyg_kd.functional.edge_scores import edge_scores
from pyg_kd.functional.propagate import normalized_adjacency
from pyg_kd.functional.ranking import top_unseen
from pyg_kd.functional.sparse import CSR, HeldCSR, gather_rows, row_matmul
from pyg_kd.graph import Neighbors, interactions
from pyg_kd.typing import ITEM, USER, Batch, XDict

FilterGraph = Literal["co-interaction", "teacher", "interactions"]
GRAPHS: tuple[FilterGraph, ...] = get_args(FilterGraph)
Loss = Literal["cosine", "squared"]
LOSSES: tuple[Loss, ...] = get_args(Loss)


class FrequencyDistillation(Distillation):
    r"""FreqD of `"Exploring Feature-based Knowledge Distillation for Recommender System: A
    Frequency Perspective" <https://arxiv.org/abs/2411.10676>`_.

    .. math::
        L = \sum_{e} \ell\bigl( f((H S)_e),\, (H T)_e \bigr), \qquad
        H = \alpha \hat A + (1 - \alpha) I, \qquad
        \ell(s, t) = 1 - \frac{\langle s, t \rangle}{\|s\| \|t\|}
        \ \text{ or }\ \|s - t\|^2

    over the unique users and items of a batch, where :math:`S` and :math:`T` are the
    representations of all users (or items). :math:`H` is a low-pass filter: what neighbours in the
    graph share weighs more than what sets them apart. :math:`f` is a perceptron with one hidden
    layer, separate for users and items, and :math:`\hat A = D^{-1/2} A D^{-1/2}` comes from one
    of three graphs:

    - ``"co-interaction"`` (default): users who share items, and items that share users.
      :math:`A = (N + N^\top) / 2`, where :math:`N` links each entity to its ``num_neighbors``
      nearest by the cosine of their interactions; ties go to those closer in the teacher's space.
    - ``"teacher"``: the same with the nearest in ``teacher_x`` by Euclidean distance. Every
      entity is compared with every other.
    - ``"interactions"``: the user-item graph itself, where items smooth users and vice versa.

    Weighting frequencies by a polynomial filter is the paper's idea; its description of the graph
    was not available to us. The form of :math:`H`, its place before the projector and both losses
    are those of the authors' code. The version of that code called FreqD uses ``"interactions"``
    with :math:`\alpha = 0.2` and no dropout; later versions use 5 neighbours in the teacher's
    space, :math:`\alpha = 0.5`, half of the edges and another hidden width. It takes half the loss
    of the unique positives plus half that of the unique negatives; this class takes the unique
    items. The co-interaction graph, its cosine and its tie-breaking are this package's choice.

    Args:
        graph: The graph of the filter.
        num_neighbors: Neighbours chosen by each entity; ignored with ``"interactions"``.
        alpha: :math:`\alpha`; 0 leaves the representations unchanged.
        dropout: Share of the entries of :math:`\hat A` to drop, redrawn in every forward pass and
            the same for student and teacher. The remaining entries are scaled up.
        loss: ``"cosine"`` (default) or ``"squared"``.
        hidden: Width of the hidden layer; half of the teacher's by default.

    Raises:
        ValueError: If an option is unknown or out of range.

    Example:
        >>> FrequencyDistillation(num_neighbors=10).graph
        'co-interaction'
    """

    needs = ("teacher_x",)

    def __init__(
        self,
        *,
        graph: FilterGraph = "co-interaction",
        num_neighbors: int = 5,
        alpha: float = 0.5,
        dropout: float = 0.5,
        loss: Loss = "cosine",
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        require_choice(GRAPHS, graph=graph)
        require_choice(LOSSES, loss=loss)
        require_count(num_neighbors=num_neighbors)
        if hidden is not None:
            require_count(hidden=hidden)
        if not 0 <= alpha <= 1:
            raise ValueError(f"'alpha' must lie in [0, 1] (got {alpha})")
        if not 0 <= dropout < 1:
            raise ValueError(f"'dropout' must lie in [0, 1) (got {dropout})")
        self.graph, self.num_neighbors, self.alpha = graph, num_neighbors, alpha
        self.dropout, self.loss, self.hidden = dropout, loss, hidden
        self.filters = nn.ModuleDict()
        self.projectors = nn.ModuleDict()

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Create the filters and the projectors."""
        for node_type in (USER, ITEM):
            teacher = graph[node_type].teacher_x
            self.filters[node_type] = HeldCSR(self._adjacency(graph, node_type))
            width = teacher.size(1)
            hidden = max(width // 2, 1) if self.hidden is None else self.hidden
            net = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, width))
            self.projectors[node_type] = net.to(teacher.device)

    def _adjacency(self, graph: HeteroData, node_type: str) -> CSR:
        if self.graph == "interactions":
            adjacency = normalized_adjacency(graph)
            return adjacency.user if node_type == USER else adjacency.item
        x = graph[node_type].teacher_x
        if self.graph == "teacher":
            row, col = nearest_to_teacher(x, self.num_neighbors)
        else:
            edges = interactions(graph)
            own, other = edges.by_user(), edges.by_item()
            if node_type == ITEM:
                own, other = other, own
            row, col = nearest_by_interactions(own, other, x, self.num_neighbors)
        return symmetric_normalized(row, col, x)

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """Compute the distance between filtered student and teacher over the batch's entities."""
        self.ensure_bound(x_dict, graph)
        t_dict = {node_type: graph[node_type].teacher_x for node_type in (USER, ITEM)}
        losses: list[Tensor] = []
        for node_type, rows in ((USER, batch.unique_users), (ITEM, batch.unique_items)):
            matrix, projector = self._dropped(node_type), self.projectors[node_type]
            dtype = next(projector.parameters()).dtype
            teacher = self._filtered(matrix, node_type, rows, t_dict).to(dtype)
            student = self._filtered(matrix, node_type, rows, x_dict).to(dtype)
            losses.append(self._distance(projector(student).to(dtype), teacher))
        return losses[0] + losses[1]

    def _dropped(self, node_type: str) -> CSR:
        held = self.filters[node_type]
        assert isinstance(held, HeldCSR)
        matrix: CSR = held.get()
        if not self.dropout:
            return matrix
        kept = torch.rand_like(matrix.value) >= self.dropout
        return matrix._replace(value=matrix.value * kept / (1 - self.dropout))

    def _filtered(self, matrix: CSR, node_type: str, rows: Tensor, x_dict: XDict) -> Tensor:
        """The rows of H X in the batch; only they and their neighbours are read."""
        neighbor_type = node_type
        if self.graph == "interactions":
            neighbor_type = ITEM if node_type == USER else USER
        own = gather_rows(x_dict[node_type], rows)
        smoothed = row_matmul(matrix, rows, x_dict[neighbor_type])
        return (1 - self.alpha) * own + self.alpha * smoothed

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.loss == "squared":
            return (student - teacher).square().sum()
        return (1 - cosine_similarity(student, teacher, dim=1)).sum()


def nearest_to_teacher(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Pairs of each row of ``x`` (``[n, d]``) and its ``k`` nearest others, two int64 ``[E]``."""
    itself = torch.arange(len(x) + 1, device=x.device)
    # The nearest maximises 2 <a, b> - |b|^2, which is an inner product as well.
    square = x.square().sum(1, keepdim=True)
    left, right = torch.cat([2 * x, -torch.ones_like(square)], 1), torch.cat([x, square], 1)
    near = top_unseen(left, right, itself, itself[:-1], k).long()
    row, place = (near >= 0).nonzero(as_tuple=True)
    return row, near[row, place]


def nearest_by_interactions(
    own: Neighbors, other: Neighbors, x: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Pairs of each entity and the ``k`` whose interactions are most similar, two int64 ``[E]``.

    Args:
        own: What each entity interacted with.
        other: The same edges from the other side.
        x: Representations, ``[n, d]``, whose cosine breaks ties.
        k: Maximum number of neighbours; entities that share nothing are never neighbours.
    """
    direction = normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1)
    degree, found = own.degree, [own.ptr.new_empty(2, 0)]
    for row, col, shared in co_interactions(own, other):
        # The squared cosine times the degree of the row: exactly equal for exact ties.
        near = shared.double().square() / degree[col]
        first = among_largest(row, near, k, len(x))
        row, col, near = row[first], col[first], near[first]
        alike = edge_scores(direction, direction, torch.stack([row, col]))
        order, place = ranked(row, alike, near)  # ties at the k-th place
        order = order[place < k]
        found.append(torch.stack([row[order], col[order]]))
    row, col = torch.cat(found, 1)
    return row, col


def symmetric_normalized(row: Tensor, col: Tensor, x: Tensor) -> CSR:
    r""":math:`D^{-1/2} A D^{-1/2}` of :math:`A = (N + N^\top) / 2`, :math:`N` having given entries.

    Args:
        row: Rows of the entries of :math:`N`, int64 ``[E]``.
        col: Their columns, int64 ``[E]``.
        x: ``[n, d]``, for the size and dtype of the result (float32 if that is half precision).
    """
    size = len(x)
    key, times = torch.cat([row * size + col, col * size + row]).unique(return_counts=True)
    row, col, weight = key // size, key % size, times.double() / 2
    degree = weight.new_zeros(size).index_add_(0, row, weight)
    value = weight * (degree[row] * degree[col]).rsqrt()
    dtype = torch.promote_types(x.dtype, torch.float32)
    return CSR(index2ptr(row, size).to(torch.int32), col.to(torch.int32), value.to(dtype))
