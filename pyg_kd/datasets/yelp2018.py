"""Businesses visited by the users of Yelp."""

from __future__ import annotations

from pyg_kd.datasets.lightgcn_benchmark import LightGCNBenchmark


class Yelp2018(LightGCNBenchmark):
    r"""The Yelp 2018 interactions as split by the `"LightGCN: Simplifying and
    Powering Graph Convolution Network for Recommendation"
    <https://arxiv.org/abs/2002.02126>`_ paper.

    31,668 users, 38,048 items and 1,561,406 interactions: the training edges are in
    ``edge_index``, the test edges in ``edge_label_index``, both int64 ``[2, E]`` and
    sorted by user, then item.

    Args:
        root: Root folder, see :class:`LightGCNBenchmark`.
        transform: Applied to the graph on every access.
        pre_transform: Applied to the graph once.
    """

    # No checksums of the published files are known; the counts guard them.
    folder = "yelp2018"
    counts = (31_668, 38_048, 1_561_406)
    num_train = 1_237_259
