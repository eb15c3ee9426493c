"""Which tables of a model are trained by the rows that a batch reads."""

from __future__ import annotations

from torch import nn
from torch_geometric.data import HeteroData

from pyg_kd.models.base import Recommender
from pyg_kd.models.inference import inference
from pyg_kd.training.objective import Objective
from pyg_kd.training.options import Options
from pyg_kd.typing import ITEM, USER

#: A step of a row takes as long as one of so many rows by Adam as it is (measured: 24 at width 20,
#: 11 at width 64).
COST = 16

#: Where tables have fewer rows, there is next to nothing to save.
LEAST_ROWS = 100_000

#: Precisions in which moments are added up as Adam does.
PRECISIONS = ("32-true", "32", "64-true", "64", "bf16-mixed")


def row_tables(
    objective: Objective, data: HeteroData, options: Options, num_processes: int
) -> list[nn.Parameter]:
    r"""The tables whose steps are deferred until their rows are read.

    ``options.sparse`` decides: with ``False`` none, with ``True`` all that allow it, with ``None``
    large ones where it changes nothing, so none under weight decay. Whether it saves time, the
    first step of an epoch shows: see :func:`most_rows`.

    Raises:
        ValueError: If ``options.sparse`` is ``True`` and no table allows it.
    """
    wanted = {USER, ITEM}
    if options.sparse is None:
        wanted = {key for key in wanted if data[key].num_nodes >= LEAST_ROWS}
    if options.sparse is False or (options.sparse is None and options.weight_decay) or not wanted:
        return []  # before the model is applied, which may take a while
    reason = _obstacle(objective, options, num_processes)
    if reason:
        tables, found = {}, {}
    elif options.num_neighbors is not None:
        tables = found = objective.model.tables_of_rows()
    else:
        tables = _tables(objective.model, data)
        found = {key: table for key, table in tables.items() if key in objective.row_wise}
    if not found and options.sparse:
        model = type(objective.model).__name__
        reason = reason or (
            f"the representations of {model} are not tables of its own"
            if not tables
            else "every table is read as a whole by one of the losses"
        )
        raise ValueError(f"'sparse' cannot be True: {reason}")
    return [table for key, table in found.items() if key in wanted]


def most_rows(options: Options) -> float:
    """The share of a table's rows up to which a step of these rows takes less time than of all."""
    return 1.0 if options.sparse else 1 / COST


def _obstacle(objective: Objective, options: Options, num_processes: int) -> str | None:
    if num_processes > 1:
        return f"gradients of rows are not exchanged between processes (got {num_processes})"
    if options.average is not None:
        return f"an average over the steps reads whole tables (got average={options.average})"
    if str(options.precision) not in PRECISIONS:
        return f"'precision' must be one of {PRECISIONS} for it (got {options.precision!r})"
    if not objective.reads:
        return "the loss does not read the model's representations"
    return None


def _tables(model: Recommender, data: HeteroData) -> dict[str, nn.Parameter]:
    """The representations that are parameters as they are, by node type."""
    with inference(model):
        x_dict = model(data)
    own = {id(p): p for p in model.parameters() if p.requires_grad}
    return {key: own[id(x)] for key, x in x_dict.items() if id(x) in own and x.dim() == 2}
