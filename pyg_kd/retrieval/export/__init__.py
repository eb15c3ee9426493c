"""An index in other formats: Parquet, ONNX, faiss, and bundles on the Hugging Face Hub.

Each needs a package of its own, which is imported when it is called and named where it is missing.
"""

from pyg_kd.retrieval.export.faiss_file import write_faiss
from pyg_kd.retrieval.export.hub import pull_bundle, push_bundle
from pyg_kd.retrieval.export.onnx import write_onnx
from pyg_kd.retrieval.export.parquet import write_parquet

__all__ = ["pull_bundle", "push_bundle", "write_faiss", "write_onnx", "write_parquet"]
