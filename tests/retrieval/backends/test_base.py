from __future__ import annotations

import numpy as np
import pytest

from pyg_kd.retrieval.backends import make_backend
from pyg_kd.retrieval.tables import Table


def test_unknown_backends_and_options_are_named():
    table = Table.of(np.eye(3))
    with pytest.raises(ValueError, match=r"'backend' must be one of \('numpy'.* \(got 'annoy'\)"):
        make_backend("annoy", table)
    with pytest.raises(TypeError, match="speed"):
        make_backend("numpy", table, speed=1)
