"""A student as a folder of memory-mapped files: written, read and checked without PyTorch."""

from pyg_kd.retrieval.bundle.manifest import BundleError
from pyg_kd.retrieval.bundle.store import load_student, save_index, save_student

__all__ = ["BundleError", "load_student", "save_index", "save_student"]
