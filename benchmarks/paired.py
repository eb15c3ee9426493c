"""Is a method better than another for other users, and for other seeds?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pyg_kd.evaluation import compare_runs

#: Values of every user, by seed.
Seeds = Mapping[int, Tensor]


def paired(baseline: Seeds, methods: Mapping[str, Seeds]) -> dict[str, dict[str, Any]]:
    """What ``compare_runs`` finds, as JSON: methods without a seed of the baseline are left out.

    Returns:
        By name: ``difference``, its 95 % ``interval`` over users, ``p users``, and ``p seeds``,
        which is missing with fewer than three seeds; both after Holm's correction.
    """
    some = {name: runs for name, runs in methods.items() if runs.keys() & baseline.keys()}
    return {
        name: {
            "difference": test.users.difference,
            "interval": list(test.users.interval),
            "p users": test.users.adjusted,
            **({} if test.seeds is None else {"p seeds": test.seeds.adjusted}),
        }
        for name, test in compare_runs(baseline, some, num_replicates=1).items()
    }
