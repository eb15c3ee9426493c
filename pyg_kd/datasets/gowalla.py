"""Check-ins of Gowalla."""

from __future__ import annotations

from pyg_kd.datasets.lightgcn_benchmark import LightGCNBenchmark


class Gowalla(LightGCNBenchmark):
    r"""The Gowalla check-ins as split by the `"LightGCN: Simplifying and
    Powering Graph Convolution Network for Recommendation"
    <https://arxiv.org/abs/2002.02126>`_ paper.

    29,858 users, 40,981 items, 810,128 training edges in ``edge_index`` and
    217,242 test edges in ``edge_label_index``, both int64 ``[2, E]`` and sorted
    by user, then item.

    Args:
        root: Root folder, see :class:`LightGCNBenchmark`.
        transform: Applied to the graph on every access.
        pre_transform: Applied to the graph once.
    """

    folder = "gowalla"
    counts = (29_858, 40_981, 1_027_370)
    num_train = 810_128
    sha256 = {
        "test.txt": "099a2a73924e4b754dc6efd730d764f492321b53c38eb93298850c83acf57be3",
    }
    # Of the edges and not of the file, of which there are several orders.
    train_sha256 = "291e5b2e123686594b24334aa5f4cfd4afa46a9422b222124b5d44eefe43bea1"
