"""Exact masked top-k by inner product, on NumPy and BLAS."""

from pyg_kd.retrieval.search.exact import top_k

__all__ = ["top_k"]
