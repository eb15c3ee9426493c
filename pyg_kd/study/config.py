r"""The configuration of a study, from YAML.

.. code-block:: yaml

    name: movielens
    metric: ndcg@10                  # settings are chosen by it, on the validation targets
    test: {k: [10, 20], metrics: [recall, ndcg]}
    seeds: [0, 1, 2]                 # settings are chosen at the first
    baseline: student alone          # the row that others are compared with
    budget: {trials: 3, extensions: 2}
    datasets:
      movielens: {data: MovieLens100K, split: {UserSplit: {val: 0.1, test: 0.1}}}
    teachers:
      als: {model: AlternatingLeastSquares, dim: 64}
    worlds:
      mf:
        teacher: als
        student: {model: MF, dim: 8, trainer: {max_epochs: 40, evaluate_every: 5}}
    methods:
      student alone: {search: {trainer.weight_decay: [1e-3, 3e-3, 1e-2]}}
      DE: {method: DistillationExperts, search: {weight: [3e-3, 1e-2, 3e-2]}}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from pyg_kd.study.binding import bound, nearest
from pyg_kd.study.schema import Config

yaml: Any = import_module("yaml")  # which publishes no types

#: Numbers like 1e-3, which YAML 1.1 takes for text.
_NUMBER = re.compile(r"^[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$")


def read_config(path: str | Path) -> Config:
    r"""Read the configuration of a study.

    Args:
        path: A YAML file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no YAML, has a key twice, or is not a configuration.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no configuration '{path}'")
    try:
        given = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is no YAML ({error})") from error
    except _Repeated as error:
        raise ValueError(f"'{path}', {error}") from error
    if not isinstance(given, Mapping):
        raise ValueError(f"'{path}' is no configuration: it must hold names and values")
    return as_config({"name": path.stem, **given})


def as_config(given: Mapping[str, Any]) -> Config:
    """The configuration that a mapping holds, the rows of an ablation among its methods."""
    config: Config = bound(Config, given, "")
    if config.ablation is not None:
        from pyg_kd.study.ablation import expand_ablation

        rows = expand_ablation(config.ablation)
        config = replace(config, methods={**rows, **config.methods})
    for world, of in config.worlds.items():
        for row in [*(of.rows or ()), *of.methods]:
            if row not in config.methods:
                raise ValueError(
                    f"worlds.{world}: there is no row {row!r} in 'methods'"
                    f"{nearest(row, config.methods)}"
                )
    return config


class _Repeated(ValueError):
    """A mapping has a key twice, of which YAML's loader would keep the last."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """A loader that reads 1e-3 as a number, and refuses a key that is there twice."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """A mapping as it is written, before ``<<`` merges others into it."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            name, line = (key.tag, str(key.value)), key.start_mark.line + 1
            if name in lines:
                raise _Repeated(
                    f"line {line}: {key.value!r} is there already, in line {lines[name]}"
                )
            lines[name] = line
        return node


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+0123456789"))
