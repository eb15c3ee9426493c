"""Books reviewed by the users of Amazon."""

from __future__ import annotations

from pyg_kd.datasets.lightgcn_benchmark import LightGCNBenchmark


class AmazonBook(LightGCNBenchmark):
    r"""The Amazon-Book interactions as split by the `"LightGCN: Simplifying
    and Powering Graph Convolution Network for Recommendation"
    <https://arxiv.org/abs/2002.02126>`_ paper.

    52,643 users, 91,599 items and 2,984,108 interactions: the training edges are in
    ``edge_index``, the test edges in ``edge_label_index``, both int64 ``[2, E]`` and
    sorted by user, then item.

    Args:
        root: Root folder, see :class:`LightGCNBenchmark`.
        transform: Applied to the graph on every access.
        pre_transform: Applied to the graph once.
    """

    # No checksums of the published files are known; the counts guard them.
    folder = "amazon-book"
    counts = (52_643, 91_599, 2_984_108)
    num_train = 2_380_730
