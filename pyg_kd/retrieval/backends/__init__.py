"""What ranks the rows of a table: NumPy unless asked otherwise.

==============  ===========  ======================================================================
name            extra        lists
==============  ===========  ======================================================================
``numpy``                    exact
``torch``       (PyTorch)    exact, on any device
``faiss-flat``  ``faiss``    exact
``faiss-ivf``   ``faiss``    approximate: only the nearest cells of a partition are searched
``faiss-hnsw``  ``faiss``    approximate: a walk on a graph of neighbours
``hnswlib``     ``hnswlib``  approximate: the same by another library
==============  ===========  ======================================================================

Libraries of indexes know nothing of what a user has seen. More rows than asked for are fetched
from them, until enough are left or there are no more.
"""

from pyg_kd.retrieval.backends.base import BACKENDS, Backend, make_backend

__all__ = ["BACKENDS", "Backend", "make_backend"]
