from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric import EdgeIndex
from torch_geometric.data import Data, HeteroData
from torch_geometric.transforms import BaseTransform, Compose, ToSparseTensor, ToUndirected

from pyg_kd.edge_types import interaction_type
from pyg_kd.graph import interactions
from pyg_kd.knowledge.requirements import graph_fingerprint
from pyg_kd.transforms import KCore, LeaveOneOut, TemporalSplit, UserItem, UserSplit

SPLITS = [UserSplit(0.2, 0.2), LeaveOneOut(), LeaveOneOut(by_time=True), TemporalSplit(0.2, 0.2)]
BUYS, VIEWS = ("customer", "buys", "product"), ("customer", "views", "product")
SHOP = UserItem(user="customer", item="product", edge=BUYS)


def shop(seed: int = 0, own_targets: bool = False) -> HeteroData:
    """Customers who buy and view products; everything has attributes that tell where it was."""
    rng = np.random.default_rng(seed)
    sizes = {"customer": 9, "product": 8, "category": 3}
    data = HeteroData()
    for kind, size in sizes.items():
        data[kind].x = torch.arange(size).float().view(-1, 1)
    data["product"].title = [f"p{i}" for i in range(8)]
    cells = rng.permutation(72)

    def connect(kind: tuple[str, str, str], flat: np.ndarray) -> None:
        data[kind].edge_index = torch.from_numpy(np.stack(np.divmod(flat, sizes[kind[2]])))
        data[kind].was = data[kind].edge_index.clone().t()

    connect(BUYS, cells[:40])
    data[BUYS].time = torch.from_numpy(rng.integers(0, 30, 40))
    connect(VIEWS, rng.permutation(np.concatenate([cells[:25], cells[35:50]])))  # repeats purchases
    connect(("product", "in", "category"), rng.integers(0, 24, 12))
    connect(("product", "near", "product"), rng.integers(0, 64, 12))
    connect(("customer", "knows", "customer"), rng.integers(0, 81, 12))
    data.name = "shop"
    if own_targets:
        data[BUYS].edge_label_index = torch.from_numpy(np.stack(np.divmod(cells[40:48], 8)))
    for kind in [BUYS, VIEWS, ("product", "in", "category")]:
        back = data[kind[2], f"rev_{kind[1]}", kind[0]]
        back.edge_index, back.was = data[kind].edge_index.flip(0), data[kind].was
    return data


def quiet(transform: BaseTransform, data: HeteroData) -> HeteroData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transform(data)


def pairs(index: torch.Tensor) -> set[tuple[int, int]]:
    return set(map(tuple, index.t().tolist()))


def user_item_pairs(data: HeteroData) -> set[tuple[int, int]]:
    """Every pair that any edge type names, whichever its direction."""
    found = set()
    for kind in data.edge_types:
        if {kind[0], kind[2]} == {"user", "item"}:
            index = data[kind].edge_index
            found |= pairs(index if kind[0] == "user" else index.flip(0))
    return found


def test_types_are_named_and_the_rest_stays():
    data = shop()
    before = {kind: dict(data[kind].items()) for kind in (*data.node_types, *data.edge_types)}
    with pytest.warns(
        UserWarning, match=r"dropped \[\('customer', 'views', 'product'\), .*rev_buys"
    ):
        out = SHOP(data)
    assert set(out.node_types) == {"user", "item", "category"}
    assert set(out.edge_types) == {
        ("user", "buys", "item"),
        ("item", "in", "category"),
        ("category", "rev_in", "item"),
        ("item", "near", "item"),
        ("user", "knows", "user"),
    }
    names = {"customer": "user", "product": "item", "category": "category"}
    for kind in out.edge_types:
        old = next(k for k in before if (names.get(k[0]), k[1], names.get(k[2])) == kind)
        assert dict(out[kind].items()).keys() == before[old].keys()
        for key, value in before[old].items():
            assert torch.equal(out[kind][key], value)
    for old, new in names.items():
        assert out[new].x is before[old]["x"]
    assert out["item"].title == before["product"]["title"] and out.name == "shop"
    assert "num_nodes" not in out["item"]  # it follows from the features, as before
    assert interactions(out)[1:] == (9, 8) and "interaction_relation" not in out
    out.validate()
    # The input is as it was.
    assert {kind: dict(data[kind].items()) for kind in before} == before
    assert {*data.node_types, *data.edge_types} == before.keys()


def movie_lens() -> HeteroData:
    """The shape of PyG's MovieLens: ratings are the ``edge_label`` of messages."""
    data = HeteroData()
    data["movie"].x, data["user"].num_nodes = torch.rand(5, 3), 4
    store = data["user", "rates", "movie"]
    store.edge_index = torch.tensor([[0, 0, 0, 1, 1, 2, 3, 3], [0, 1, 2, 2, 4, 3, 0, 4]])
    store.edge_label, store.time = torch.arange(8), torch.arange(8) * 10
    return data


def movie_lens_100k() -> HeteroData:
    """The shape of PyG's MovieLens100K: reverse edges, and test targets with ratings."""
    data = movie_lens()
    store = data["user", "rates", "movie"]
    store.rating, store.edge_label = store.edge_label, torch.tensor([5.0, 3.0])
    store.edge_label_index = torch.tensor([[0, 2], [4, 0]])
    back = data["movie", "rated_by", "user"]
    back.edge_index, back.rating = store.edge_index.flip(0), store.rating
    return data


def amazon_book() -> HeteroData:
    """The shape of PyG's AmazonBook: no features, and test targets."""
    data = HeteroData()
    data["user"].num_nodes, data["book"].num_nodes = 4, 5
    index = movie_lens()["user", "rates", "movie"].edge_index
    data["user", "rates", "book"].edge_index = index
    data["book", "rated_by", "user"].edge_index = index.flip(0)
    data["user", "rates", "book"].edge_label_index = torch.tensor([[0, 2], [4, 0]])
    return data


@pytest.mark.parametrize("split", SPLITS[:2], ids=repr)
@pytest.mark.parametrize(
    ("make", "transform"),
    [
        (movie_lens, UserItem(item="movie")),
        (lambda: ToUndirected()(movie_lens()), UserItem(item="movie")),
        (lambda: ToUndirected(merge=False)(movie_lens()), UserItem()),
        (movie_lens_100k, UserItem(item="movie")),
        (amazon_book, UserItem(item="book")),
        (amazon_book, UserItem()),
    ],
)
def test_shapes_of_pyg_datasets(make, transform, split):
    data = make()
    source = data.edge_types[0]
    known, own = pairs(data[source].edge_index), "edge_label_index" in data[source]
    out = quiet(transform, data)
    assert out.edge_types == [("user", "rates", "item")]
    train, val, test = split(out)
    trained, validated, tested = (
        pairs(train["user", "item"].edge_index),
        pairs(val["user", "item"].edge_label_index),
        pairs(test["user", "item"].edge_label_index),
    )
    assert trained and validated and tested
    assert not trained & (validated | tested)
    assert trained | validated | (set() if own else tested) == known
    if own:
        assert tested == {(0, 4), (2, 0)}
    for name in {"label", "rating"} & {*out["user", "item"].keys()}:  # ratings follow their edges
        rating = dict(zip(map(tuple, data[source].edge_index.t().tolist()), range(8), strict=True))
        edges = train["user", "item"].edge_index.t().tolist()
        assert train["user", "item"][name].tolist() == [rating[tuple(e)] for e in edges]


def test_ratings_that_are_labels_of_messages_get_a_name_of_their_own():
    out = UserItem()(movie_lens())
    assert out["user", "item"].label.tolist() == [*range(8)]
    assert "edge_label" not in out["user", "item"]
    hundred = quiet(UserItem(), movie_lens_100k())["user", "item"]
    assert hundred.edge_label.tolist() == [5, 3] and hundred.rating.tolist() == [*range(8)]


@pytest.mark.parametrize("own_targets", [False, True])
@pytest.mark.parametrize("keep", [(), ("views",)])
@pytest.mark.parametrize("split", SPLITS, ids=repr)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_edge_type_keeps_a_target(split, keep, own_targets, seed):
    transform = UserItem("customer", "product", BUYS, keep_relations=keep)
    data = quiet(transform, shop(seed, own_targets))
    views = pairs(data["user", "views", "item"].edge_index) if keep else set()
    if keep and own_targets:
        own = pairs(data["user", "buys", "item"].edge_label_index)
        assert not views & own and pairs(shop(seed)[VIEWS].edge_index) - own == views
    train, val, test = quiet(split, data)
    buys = ("user", "buys", "item")
    validated, tested = (pairs(g[buys].edge_label_index) for g in (val, test))
    for graph, hidden in ((train, validated | tested), (val, validated | tested), (test, tested)):
        assert interaction_type(graph) == buys
        assert not user_item_pairs(graph) & hidden
        assert set(graph.edge_types) == set(data.edge_types)
        if keep:  # and nothing else is lost
            store = graph["user", "views", "item"]
            raw = graph["user"].get("raw_id", torch.arange(9))
            was = store.was.t()
            assert torch.equal(raw[store.edge_index[0]], was[0])
            assert torch.equal(store.edge_index[1], was[1])
            kept = {(u, i) for u, i in views if u in raw.tolist()}
            names = {(int(raw[u]), i) for u, i in hidden}
            assert pairs(was) == kept - names


PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=20)


@given(
    relations=st.lists(st.tuples(st.booleans(), PAIRS), min_size=1, max_size=5),
    pick=st.integers(0, 4),
    kept=st.sets(st.integers(0, 4)),
    own=st.none() | PAIRS,
    number=st.integers(0, len(SPLITS) - 1),
)
def test_no_relation_of_any_graph_keeps_a_target(relations, pick, kept, own, number):
    """Relations in both directions, of which the interactions are any, with repeats."""
    data, pick = HeteroData(), pick % len(relations)
    data["buyer"].num_nodes = data["good"].num_nodes = 5
    kinds = []
    for name, (forward, edges) in enumerate(relations):
        kinds.append(("buyer", f"r{name}", "good") if forward else ("good", f"r{name}", "buyer"))
        data[kinds[-1]].edge_index = torch.tensor(edges).t()
        data[kinds[-1]].time = torch.arange(len(edges))
    messages = set(relations[pick][1])
    if own is not None and set(own) - messages:
        targets = torch.tensor(sorted(set(own) - messages)).t()
        data[kinds[pick]].edge_label_index = targets
    keep = [kinds[n][1] for n in kept if n < len(kinds) and n != pick and kinds[n][0] == "buyer"]
    transform = UserItem("buyer", "good", kinds[pick], keep_relations=keep)
    prepared = quiet(transform, data)
    assert sorted(kind[1] for kind in prepared.edge_types) == sorted([kinds[pick][1], *keep])
    interacted = interactions(prepared).edge_index
    turned = interacted if kinds[pick][0] == "buyer" else interacted.flip(0)
    assert pairs(turned) == messages and turned.size(1) == len(messages)
    try:
        train, val, test = quiet(SPLITS[number], prepared)
    except ValueError as error:
        assert "must differ enough" in str(error)  # too few edges for the times to split
        return
    validated, tested = (pairs(g[interaction_type(g)].edge_label_index) for g in (val, test))
    for graph, hidden in ((train, validated | tested), (val, validated | tested), (test, tested)):
        assert not user_item_pairs(graph) & hidden


@given(seed=st.integers(0, 2**32 - 1), k_user=st.integers(1, 4), k_item=st.integers(1, 5))
def test_core_takes_the_edges_of_all_types_along(seed, k_user, k_item):
    transform = UserItem("customer", "product", BUYS, keep_relations=["views"])
    data = quiet(transform, shop(seed, own_targets=True))
    try:
        out = KCore(k_user=k_user, k_item=k_item)(copy.copy(data))
    except ValueError as error:
        assert "must have a core" in str(error)
        return
    alone = HeteroData()  # the same core without anything else
    for kind in ("user", "item"):
        alone[kind].num_nodes = data[kind].num_nodes
    alone["user", "buys", "item"].edge_index = data["user", "buys", "item"].edge_index
    assert graph_fingerprint(KCore(k_user=k_user, k_item=k_item)(alone)) == graph_fingerprint(out)
    raw = {"user": out["user"].raw_id, "item": out["item"].raw_id, "category": torch.arange(3)}
    for kind, ids in raw.items():
        assert out[kind].x.flatten().tolist() == ids.tolist()
    assert out["item"].title == [f"p{i}" for i in raw["item"].tolist()]
    for kind in set(data.edge_types) - {("user", "buys", "item")}:
        was = data[kind].was.tolist()
        first, second = (raw[end].tolist() for end in (kind[0], kind[2]))
        if kind == ("category", "rev_in", "item"):  # `was` names item, category
            expected = [[i, c] for i, c in was if i in second]
        else:
            expected = [[a, b] for a, b in was if a in first and b in second]
        assert out[kind].was.tolist() == expected
        index = out[kind].edge_index
        found = torch.stack([raw[kind[0]][index[0]], raw[kind[2]][index[1]]], 1)
        found = found.flip(1) if kind[0] == "category" else found
        assert found.tolist() == expected


def test_a_graph_of_the_package_passes_unchanged():
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 3, 4
    data["user", "interacts", "item"].edge_index = torch.tensor([[0, 2], [3, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = UserItem()(data)
        again = UserItem()(out)
    for graph in (out, again):
        assert graph["user", "item"].edge_index is data["user", "item"].edge_index
        assert graph.to_dict().keys() == data.to_dict().keys()


@pytest.mark.parametrize(
    "options",
    [
        {"user": "customer"},
        {"item": "product"},
        {"edge": ("product", "sold_to", "customer"), "user": "customer"},
        {"edge": ("product", "sold_to", "customer"), "item": "product"},
    ],
)
def test_edges_from_item_to_user_are_turned(options):
    data = HeteroData()
    data["customer"].num_nodes, data["product"].num_nodes = 5, 2
    store = data["product", "sold_to", "customer"]
    store.edge_index = EdgeIndex([[0, 1, 1], [4, 2, 3]], sparse_size=(2, 5), sort_order="row")
    store.time, store.edge_label_index = torch.tensor([7, 8, 9]), torch.tensor([[0], [3]])
    out = UserItem(**options)(data)
    assert out.edge_types == [("user", "sold_to", "item")]
    found = out["user", "item"]
    assert found.edge_index.tolist() == [[4, 2, 3], [0, 1, 1]] and found.time.tolist() == [7, 8, 9]
    assert found.edge_label_index.tolist() == [[3], [0]]
    assert interactions(out)[1:] == (5, 2)


@pytest.mark.parametrize("timed", [False, True])
def test_repeated_interactions_become_their_latest(timed):
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, 2
    store = data["user", "buys", "item"]
    store.edge_index = torch.tensor([[0, 1, 0, 0, 1], [1, 0, 1, 0, 0]])
    store.place = torch.arange(5)
    if timed:
        store.time = torch.tensor([30, 10, 20, 50, 10])
    out = UserItem()(data)["user", "item"]
    # The third purchase repeats the first, the last repeats the second at the same time.
    assert out.place.tolist() == ([0, 3, 4] if timed else [2, 3, 4])
    assert pairs(out.edge_index) == {(0, 1), (0, 0), (1, 0)} and out.edge_index.size(1) == 3


def test_node_types_may_exchange_their_names():
    data = HeteroData()
    data["item"].num_nodes, data["user"].num_nodes = 3, 2  # a shop that calls its customers so
    data["item", "buys", "user"].edge_index = torch.tensor([[2], [1]])
    out = UserItem(user="item", item="user")(data)
    assert interactions(out)[1:] == (3, 2)
    assert interactions(out).edge_index.tolist() == [[2], [1]]


def test_a_sparse_copy_of_the_edges_does_not_stay():
    data = ToSparseTensor(remove_edge_index=False, attr=None)(movie_lens())
    assert "adj_t" in data["user", "rates", "movie"]
    out = UserItem()(data)
    assert "adj_t" not in out["user", "item"] and out["user", "item"].edge_index.size(1) == 8
    data.rename("movie", "item")
    for transform in (*SPLITS, KCore(1)):
        with pytest.raises(ValueError, match=r"got 'adj_t' too, where removed edges would remain"):
            transform(data)


def test_it_composes_and_says_what_it_is():
    transform = Compose([UserItem(item="movie"), KCore(1), UserSplit(0.1, 0.3)])
    assert transform(movie_lens())[0]["user", "item"].edge_index.size(1) < 8
    assert repr(UserItem()) == "UserItem()"
    options = "user='customer', edge=('customer', 'buys', 'product'), keep_relations=('views',)"
    assert repr(UserItem("customer", edge=BUYS, keep_relations=["views"])) == f"UserItem({options})"


def test_a_label_of_its_own_is_not_written_over():
    data = movie_lens()
    data["user", "rates", "movie"].label = torch.zeros(8)
    with pytest.raises(ValueError, match=r"must not have 'label' and 'edge_label' without"):
        UserItem()(data)


def test_kept_relations_survive_a_second_pass():
    out = quiet(UserItem("customer", "product", BUYS, keep_relations=["views"]), shop())
    assert interaction_type(out) == ("user", "buys", "item")
    again = UserItem(keep_relations=["views"])(out)
    assert interaction_type(again) == ("user", "buys", "item")
    with pytest.warns(UserWarning, match="dropped .*views"):
        bare = UserItem()(out)
    assert "views" not in [kind[1] for kind in bare.edge_types]
    assert "interaction_relation" not in bare


def changed(change: Callable[[HeteroData], object]) -> HeteroData:
    data = shop()
    change(data)
    return data


@pytest.mark.parametrize(
    ("transform", "data", "message"),
    [
        (UserItem("customer", "product"), shop(), r"choose one by 'edge': \[.*'buys'.*'views'"),
        (UserItem("customer", "category"), shop(), r"'customer' and 'category', there is none"),
        (UserItem("buyer", "product"), shop(), r"'user' must be one of \[.*\] \(got 'buyer'\)"),
        (UserItem(), shop(), r"'user' and 'item' must name two of the node types \['category'"),
        (UserItem(item="product"), shop(), r"'user' must be given: .* \['category', 'customer'\]"),
        (UserItem(edge=("a", "b", "c")), shop(), r"'user' must be one of .* \(got 'a'\)"),
        (
            UserItem(edge=("customer", "sees", "product")),
            shop(),
            r"there is none \(got edge=\('customer', 'sees', 'product'\)\): \[.*'buys'",
        ),
        (
            UserItem(edge=BUYS, keep_relations=["likes"]),
            shop(),
            r"other relations from 'customer' to 'product', \['views'\] \(got \['likes'\]\)",
        ),
        (
            UserItem(edge=BUYS),
            changed(lambda data: data.rename("category", "item")),
            r"no other node type 'item' when 'product' gets that name: data.rename\('item'",
        ),
        (
            UserItem(edge=BUYS),
            changed(lambda data: data[BUYS].edge_index[0].fill_(9)),
            r"'edge_index\[0\] \(users\)' must lie in 0..8 \(got 9\)",
        ),
    ],
)
def test_bad_graphs(transform, data, message):
    with pytest.raises(ValueError, match=message):
        quiet(transform, data)


def test_sizes_are_asked_for():
    data = HeteroData()
    data[BUYS].edge_index = torch.tensor([[0, 6], [1, 3]])
    transform = UserItem(user="customer", item="product")
    message = "'data['customer'].num_nodes' is not set: give the number of customers"
    with pytest.raises(ValueError, match=re.escape(message) + r".* edges: 6\)"):
        transform(data)
    data["customer"].num_nodes = 7
    with pytest.raises(ValueError, match=r"'data\['product'\].num_nodes' is not set.* edges: 3\)"):
        transform(data)
    data["product"].num_nodes = 4
    assert interactions(transform(data))[1:] == (7, 4)


@pytest.mark.parametrize("graph", [Data(edge_index=torch.tensor([[0], [1]])), torch.ones(2, 3)])
def test_other_graphs_are_refused(graph):
    with pytest.raises(TypeError, match=r"must be a HeteroData \(got .*from_interactions"):
        UserItem()(graph)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"user": 3}, "'user' must be the name of a node type"),
        ({"user": "a", "item": "a"}, r"'user' and 'item' must be two .*'a' for both"),
        ({"edge": "buys"}, "'edge' must be three names"),
        ({"edge": ("a", "b")}, r"'edge' must be three names.*\('a', 'b'\)"),
        ({"keep_relations": "views"}, "'keep_relations' must be a list of names"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        UserItem(**options)
