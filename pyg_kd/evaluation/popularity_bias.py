"""How far a model's lists favour what is popular already, and how the items share the lists."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.evaluation.slice_groups import Groups, check_groups, popularity_groups
from pyg_kd.graph import Neighbors, interactions
from pyg_kd.metrics.ranker import Ranker
from pyg_kd.metrics.ranking_metrics import check_lengths
from pyg_kd.models.inference import best_unseen
from pyg_kd.typing import ITEM

#: What is known of every user, by name.
PER_USER = ("popularity", "history", "head", "tail", "novelty", "miscalibration")


class PopularityBias(NamedTuple):
    r"""What :func:`popularity_bias` measures; the formulas are there.

    Args:
        popularity: Average recommendation popularity, in interactions.
        lift: Popularity lift, of means over users: 0 where lists are as popular as histories, 1
            for twice as much.
        head: The share of the lists that head items take.
        tail: The share that items of the tail take.
        coverage: The share of the catalogue that is in someone's list.
        gini: Gini coefficient of how often items are listed: 0 for equally often.
        novelty: Mean self-information of what is listed, in bits.
        miscalibration: Mean divergence of the list's mix of popularity from the history's.
        values: ``"popularity"``, that of the ``"history"``, ``"head"``, ``"tail"``,
            ``"novelty"`` and ``"miscalibration"`` of each user, float64 ``[n]``.
        user: These users, ascending, int64 ``[n]``.
        exposure: How many lists hold each item, int64 ``[I]``.
    """

    popularity: float
    lift: float
    head: float
    tail: float
    coverage: float
    gini: float
    novelty: float
    miscalibration: float
    values: dict[str, Tensor]
    user: Tensor
    exposure: Tensor

    def to_dict(self) -> dict[str, float]:
        """The eight numbers."""
        return {name: value for name, value in self._asdict().items() if isinstance(value, float)}

    def lift_of(self, among: Tensor) -> float:
        """The lift of some of the users, bool ``[n]``: of the least active, for example."""
        return _lift(self.values["popularity"][among], self.values["history"][among])


def popularity_bias(
    model: Ranker,
    data: HeteroData,
    k: int = 20,
    *,
    users: Tensor | None = None,
    groups: Groups | None = None,
) -> PopularityBias:
    r"""Measure how popular the items are that a model lists, among those a user has not seen.

    With :math:`\phi(i)` the number of users of item :math:`i`, :math:`H_u` the items of a user
    in ``data`` and :math:`L_u` its list,

    .. math::
        \mathrm{ARP} &= \frac{1}{U} \sum_u \frac{1}{|L_u|} \sum_{i \in L_u} \phi(i)
        \qquad
        \mathrm{lift} = \frac{\mathrm{GAP}(L) - \mathrm{GAP}(H)}{\mathrm{GAP}(H)} \\
        \mathrm{novelty} &= \frac{1}{U} \sum_u \frac{1}{|L_u|}
        \sum_{i \in L_u} - \log_2 \frac{\phi(i)}{U}
        \qquad
        \mathrm{Gini} = \frac{\sum_{j=1}^{I} (2j - I - 1) \, c_{(j)}}{I \sum_j c_{(j)}}

    where :math:`\mathrm{GAP}` is the mean over users of the mean :math:`\phi` of their items, as
    in `"The Unfairness of Popularity Bias in Recommendation" <https://arxiv.org/abs/1907.13286>`_,
    and :math:`c_{(j)}` ascends the numbers of lists that hold an item. An item without users
    counts as one with one user for novelty. Miscalibration is the
    Jensen-Shannon divergence, in bits, of the shares :math:`p` of head, middle and tail in
    :math:`H_u` and :math:`q` in :math:`L_u`, from 0 to 1:

    .. math::
        \tfrac{1}{2} \sum_g p_g \log_2 \frac{2 p_g}{p_g + q_g}
        + \tfrac{1}{2} \sum_g q_g \log_2 \frac{2 q_g}{p_g + q_g}

    as in `"User-centered Evaluation of Popularity Bias in Recommender Systems"
    <https://arxiv.org/abs/2103.06364>`_. It asks of a list the user's own taste for popular
    items, where the lift asks the mean user's.

    Args:
        model: What :func:`~pyg_kd.evaluation.evaluate` takes.
        data: The training graph, whose items are left out of lists and make up histories.
        k: Length of the lists.
        users: Whose lists, int64 ``[n]``; of those only users with a history. All by default.
        groups: Classes of items; by default
            :func:`~pyg_kd.evaluation.popularity_groups`. The first is the head, the one named
            ``"tail"``, or else the last, the tail.

    Raises:
        ValueError: If ``k`` is out of range, no user has a history, or groups are of users.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.models import GFCF
        >>> data = SyntheticInteractions(num_users=200, num_items=80, num_edges=3_000)[0]
        >>> bias = popularity_bias(GFCF(data), data, k=10)
        >>> bias.lift > 0, 0 < bias.coverage <= 1
        (True, True)
    """
    edges = interactions(data)
    (k,) = check_lengths(k, edges.num_items)
    seen = edges.by_user()
    known = (seen.degree > 0).nonzero().squeeze(1)
    if users is not None:
        known = known[torch.isin(known, users.to(known.device))]
    if not len(known):
        raise ValueError(f"'users' must hold one with a history (got {users})")
    items, _ = best_unseen(model, data, k, known)
    return list_bias(items, data, known, groups=groups)


def list_bias(
    items: Tensor, data: HeteroData, users: Tensor, *, groups: Groups | None = None
) -> PopularityBias:
    r""":func:`popularity_bias` of lists: of a teacher's ``teacher_items``, for example.

    Args:
        items: Lists, integers ``[n, k]``, padded with -1.
        data: The training graph.
        users: The users of the lists, with a history each, int64 ``[n]``.
        groups: As in :func:`popularity_bias`.

    Raises:
        ValueError: If there is not one list a user, or groups are of users.
    """
    edges = interactions(data)
    if items.dim() != 2 or len(items) != len(users):
        raise ValueError(
            f"'items' must be one list a user, [{len(users)}, k] (got {list(items.shape)})"
        )
    groups = popularity_groups(data) if groups is None else groups
    check_groups("groups", groups)
    if groups.node_type != ITEM:
        raise ValueError(f"'groups' must be of items (got groups of {groups.node_type!r})")
    degree = edges.by_item().degree
    listed = Neighbors(*_pattern(items))
    history = Neighbors(*_pattern_of(edges.by_user(), users))
    values = _per_user(listed, history, degree, edges.num_users, groups)
    exposure = torch.bincount(listed.col, minlength=edges.num_items)
    means = {name: float(value.mean()) for name, value in values.items() if name != "history"}
    return PopularityBias(
        **means,
        lift=_lift(values["popularity"], values["history"]),
        coverage=float((exposure > 0).double().mean()),
        gini=gini(exposure),
        values=values,
        user=users,
        exposure=exposure,
    )


def gini(count: Tensor) -> float:
    r"""Gini coefficient of counts, from 0, all equal, to almost 1, one has all.

    Example:
        >>> gini(torch.tensor([0, 0, 0, 8]))
        0.75
    """
    ordered = count.double().sort().values
    n, total = len(ordered), float(ordered.sum())
    place = torch.arange(1, n + 1, dtype=torch.double, device=count.device)
    return float(((2 * place - n - 1) * ordered).sum()) / (n * total) if total else 0.0


def _per_user(
    listed: Neighbors, history: Neighbors, degree: Tensor, num_users: int, groups: Groups
) -> dict[str, Tensor]:
    """What is known of every user, under the names of :data:`PER_USER`."""
    popularity = degree.double()
    bits = -(popularity.clamp(min=1) / num_users).log2()
    count = len(groups.names)
    of_list, of_history = (_profile(rows, groups.of, count) for rows in (listed, history))
    tail = groups.names.index("tail") if "tail" in groups.names else count - 1
    found = (
        _row_mean(listed, popularity),
        _row_mean(history, popularity),
        of_list[:, 0],
        of_list[:, tail],
        _row_mean(listed, bits),
        _divergence(of_history, of_list),
    )
    return dict(zip(PER_USER, found, strict=True))


def _pattern(items: Tensor) -> tuple[Tensor, Tensor]:
    kept = items >= 0
    ptr = torch.zeros(len(items) + 1, dtype=torch.long, device=items.device)
    ptr[1:] = kept.sum(1).cumsum(0)
    return ptr, items[kept].long()


def _pattern_of(seen: Neighbors, users: Tensor) -> tuple[Tensor, Tensor]:
    ptr = torch.zeros(len(users) + 1, dtype=torch.long, device=users.device)
    ptr[1:] = seen.degree[users].cumsum(0)
    return ptr, seen.of(users)[1]


def _row_mean(rows: Neighbors, value: Tensor) -> Tensor:
    """The mean of a value over each row's items, float64 ``[n]``; 0 for a row without any."""
    total = torch.zeros(len(rows.degree), dtype=torch.double, device=value.device)
    total.index_add_(0, rows.row, value[rows.col])
    return total / rows.degree.clamp(min=1)


def _profile(rows: Neighbors, of: Tensor, count: int) -> Tensor:
    """The share of each class in each row, float64 ``[n, count]``, of what has a class."""
    group = of[rows.col]
    inside = group >= 0
    key = rows.row[inside] * count + group[inside]
    found = torch.bincount(key, minlength=len(rows.degree) * count).view(-1, count).double()
    return found / found.sum(1, keepdim=True).clamp(min=1)


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence of rows, in bits."""
    middle = (p + q) / 2
    entropy: Any = torch.special.entr
    nats = entropy(middle).sum(1) - (entropy(p).sum(1) + entropy(q).sum(1)) / 2
    found: Tensor = (nats / torch.log(nats.new_tensor(2.0))).clamp(min=0)
    return found


def _lift(listed: Tensor, history: Tensor) -> float:
    before = float(history.mean())
    return (float(listed.mean()) - before) / before
