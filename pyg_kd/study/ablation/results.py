"""Ablations from the results of a study, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import inf
from typing import Any

from pyg_kd.study.ablation.config import ablation_rows, control_rows
from pyg_kd.study.ablation.effects import Ablation, Effect, ablate
from pyg_kd.study.ablation.section import ablation_section
from pyg_kd.study.report import Section
from pyg_kd.study.results import Results

PAIR = " x "


def ablation_of(
    results: Results,
    *,
    dataset: str | None = None,
    world: str | None = None,
    metric: str | None = None,
    ablation: Mapping[str, Any] | None = None,
    num_replicates: int = 10_000,
) -> Ablation:
    r"""The ablation of a study whose configuration has the key ``ablation``.

    Args:
        results: The results.
        dataset: The data set; the first by default.
        world: The world; the first by default.
        metric: The test metric; that by which settings are chosen, if it was measured, else the
            first.
        ablation: What the configuration says of it, if the results do not tell.
        num_replicates: Replicates of the bootstrap.

    Raises:
        KeyError: If the metric was not measured.
        ValueError: If the study has no ablation, or a row is missing.
    """
    ablation = results.config.get("ablation") if ablation is None else ablation
    if not ablation:
        raise ValueError(f"the study {results.name!r} has no 'ablation' in its configuration")
    dataset = results.datasets[0] if dataset is None else dataset
    world = results.worlds[0] if world is None else world
    if metric is None:
        chosen = str(results.config.get("metric"))
        metric = chosen if chosen in results.metrics else results.metrics[0]
    values = results.values(dataset, world, metric)
    names = ablation_rows(ablation)
    beside = {c: row for c, row in control_rows(ablation).items() if row in values}
    if missing := [row for row in names.values() if row not in values]:
        raise ValueError(
            f"the study {results.name!r} has no tested run of {missing[0]!r} on {dataset!r} in "
            f"{world!r}, and of {len(missing)} rows of the ablation in all"
        )
    return ablate(
        [*ablation["components"]],
        {subset: values[row] for subset, row in names.items()},
        controls={control: values[row] for control, row in beside.items()},
        metric=metric,
        num_replicates=num_replicates,
    )


def ablation_sections(results: Results) -> list[Section]:
    """The ablation of a study on each data set and in each world, where all rows were tested."""
    ablation = results.config.get("ablation")
    if not ablation:
        return []
    found = []
    places = list(product(results.datasets, results.worlds))
    for number, (dataset, world) in enumerate(places):
        tested = {record.method for record in results.finalists(dataset, world)}
        if set(ablation_rows(ablation).values()) <= tested:
            of = f": {dataset}, {world}" if len(places) > 1 else ""
            made = ablation_of(results, dataset=dataset, world=world)
            base = ablation_rows(ablation)[frozenset()]
            name = f"ablation-{number}" if number else "ablation"
            found.append(ablation_section(made, f"Ablation{of}", name=name, base=base))
    return found


def ablation_to_json(found: Ablation) -> dict[str, Any]:
    """An ablation as plain JSON."""
    return {
        "components": [*found.components],
        "metric": found.metric,
        "seeds": found.num_seeds,
        "users": found.num_users,
        "subsets": [
            {"components": sorted(subset), **_plain(effect)}
            for subset, effect in found.subsets.items()
        ],
        "total": _plain(found.total),
        "shapley": {name: _plain(e) for name, e in found.shapley.items()},
        "leave one out": {name: _plain(e) for name, e in found.leave_one_out.items()},
        "add one in": {name: _plain(e) for name, e in found.add_one_in.items()},
        "interactions": {PAIR.join(pair): _plain(e) for pair, e in found.interactions.items()},
        "controls": {name: _plain(e) for name, e in found.controls.items()},
    }


def ablation_from_json(given: Mapping[str, Any]) -> Ablation:
    r"""The ablation that :func:`ablation_to_json` wrote.

    Raises:
        ValueError: If something is missing.
    """
    try:
        names = tuple(given["components"])
        pairs = {PAIR.join((a, b)): (a, b) for a in names for b in names}
        return Ablation(
            components=names,
            metric=given["metric"],
            num_seeds=given["seeds"],
            num_users=given["users"],
            subsets={frozenset(row["components"]): _effect(row) for row in given["subsets"]},
            total=_effect(given["total"]),
            shapley=_effects(given["shapley"]),
            leave_one_out=_effects(given["leave one out"]),
            add_one_in=_effects(given["add one in"]),
            interactions={pairs[name]: _effect(e) for name, e in given["interactions"].items()},
            controls=_effects(given["controls"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"'given' is no ablation: {error} is missing or wrong") from error


def _plain(effect: Effect) -> dict[str, Any]:
    ends = effect.share_interval
    return {
        "value": effect.value,
        "interval": [*effect.interval],
        "share": effect.share,
        # JSON has no infinity.
        "share interval": None if ends is None or inf in ends or -inf in ends else [*ends],
    }


def _effects(given: Mapping[str, Any]) -> dict[str, Effect]:
    return {name: _effect(value) for name, value in given.items()}


def _effect(given: Mapping[str, Any]) -> Effect:
    share, ends = given["share"], given["share interval"]
    low, high = given["interval"]
    if share is None:
        return Effect(given["value"], (low, high))
    return Effect(given["value"], (low, high), share, tuple(ends) if ends else (-inf, inf))
