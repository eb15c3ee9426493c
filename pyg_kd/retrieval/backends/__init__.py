"""What ranks the rows of a table: NumPy unless asked otherwise.

=============  ==========================  ==========================================================
name           needs                       ranks
=============  ==========================  ==========================================================
``numpy``      NumPy                       exactly; the default
=============  ==========================  ==========================================================
"""

from pyg_kd.retrieval.backends.base import BACKENDS, Backend, make_backend

__all__ = ["BACKENDS", "Backend", "make_backend"]
