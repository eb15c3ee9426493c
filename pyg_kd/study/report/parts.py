"""The sections of the report of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyg_kd.retrieval.extras import need
from pyg_kd.study.report.by_activity import activity_section
from pyg_kd.study.report.findings import findings
from pyg_kd.study.report.html import anchor
from pyg_kd.study.report.numbers import metric_text
from pyg_kd.study.report.plots import forest, pareto
from pyg_kd.study.report.section import Section, Table
from pyg_kd.study.report.tables import accuracy, costs, differences, fingerprints

Summary = Mapping[str, Any]

READING = """\
*Row* is a method with its setting. Differences are paired: the same users, the same seeds. Seeds \
are of training, on one split of the data. Three tests ask different questions, and each p-value \
is after Holm's correction for the rows of its table:

- *p, users*: does the difference hold for other users, with these very runs? A paired t-test of \
users' means over seeds. It finds two seeds of one method different, since all users of a run \
share its luck.
- *p, seeds*: does it hold for other seeds, with these very users? A paired t-test of the seeds' \
means, from three seeds on.
- *p, both*: does it hold for other users and other seeds? A bootstrap of {replicates:,} \
replicates over users and seeds, which are crossed; the intervals are its own. A row of one seed \
has the interval over users.

*Gap closed* is (row - {baseline}) / (teacher - {baseline}); its interval is Fieller's set under \
the same bootstrap, unbounded where the teacher is not clearly above. Settings were chosen on \
validation targets; test targets were read once."""


def study_section(found: Summary, sections: Sequence[Section] = ()) -> Section:
    r"""The whole report of a study.

    Args:
        found: What :func:`~pyg_kd.study.report.summary` returned.
        sections: Further sections, put before what was run.
    """
    title = found.get("title") or f"Study: {found['name']}"
    note = "\n\n".join(filter(None, [(found.get("note") or "").strip(), _unfinished(found)]))
    parts = [_summary(found), *(_world(found, world) for world in found["worlds"])]
    parts += [_reading(found), *sections, _what_was_run(found), _commands(found)]
    return Section(title, note, parts=parts)


def _unfinished(found: Summary) -> str:
    """What a study that stopped early has not told yet."""
    reasons: Mapping[str, str] = found.get("failed") or {}
    failed = [f"{name} ({reason})" for name, reason in reasons.items()]
    missing = found.get("missing") or 0
    return " ".join([
        *([f"**Not finished**: {missing} tested runs are missing."] if missing else []),
        *([f"**Failed**: {'; '.join(failed)}."] if failed else []),
    ])  # fmt: skip


def world_name(found: Summary, world: Summary) -> str:
    """Data set and world; one alone where only it varies."""
    varied = [key for key in ("dataset", "world") if len({w[key] for w in found["worlds"]}) > 1]
    return ", ".join(str(world[key]) for key in varied or ("dataset", "world"))


def _summary(found: Summary) -> Section:
    metric = found["metrics"][0]
    parts = []
    for world in found["worlds"]:
        said = findings(world, found["baseline"], metric)
        text = "\n".join(f"- {sentence}" for sentence in said)
        parts.append((world_name(found, world), text))
    if len(parts) == 1:
        return Section("Summary", parts[0][1])
    return Section("Summary", parts=[Section(f"{name}: findings", text) for name, text in parts])


def _world(found: Summary, world: Summary) -> Section:
    """Accuracy, differences and costs of a world, with its figures."""
    metrics, baseline = found["metrics"], found["baseline"]
    name = anchor(f"{world['dataset']} {world['world']}")
    pictures = [forest(world, baseline, metrics[0], f"forest-{name}")]
    tradeoff = pareto(world, metrics[0], f"cost-{name}")
    activity = activity_section(world, f"activity-{name}")
    return Section(
        world_name(found, world),
        _sizes(found, world),
        [accuracy(world, metrics, published(found, world))],
        pictures,
        [
            *(
                _differences(world, metrics, beside, gaps=beside == baseline)
                for beside in world["beside"]
            ),
            *([activity] if activity else []),
            Section("Settings and costs", "", [costs(world)], [tradeoff] if tradeoff else []),
        ],
    )


def published(found: Summary, world: Summary) -> dict[str, dict[str, float]]:
    """Published figures by row and metric: of the study, or of the world."""
    every: Mapping[str, Any] = found.get("published") or {}
    given: Mapping[str, Any] = every.get(world["world"], every)
    return {row: of for row, of in given.items() if row in world["rows"] and isinstance(of, dict)}


def _sizes(found: Summary, world: Summary) -> str:
    """The size of the data, as far as it is known."""
    every: Mapping[str, Mapping[str, Any]] = found.get("sizes") or {}
    sizes = every.get(world["dataset"], {})
    counts = [f"{count:,} {name}" for name, count in sizes.items() if isinstance(count, int)]
    return "; ".join([*counts, f"{world['users']:,} test users"]) + "."


def _differences(world: Summary, metrics: Sequence[str], beside: str, *, gaps: bool) -> Section:
    """The first metric's table, and the others' folded."""
    every = [differences(world, metric, beside, gaps=gaps) for metric in metrics]
    tables = [table for table in every if table is not None]
    title = f"Beside {beside}"
    if not tables:
        return Section(title, "No row to compare.")
    others = [Section("Other metrics", tables=tables[1:], folded=True)] if tables[1:] else []
    return Section(title, tables=tables[:1], parts=others)


def _reading(found: Summary) -> Section:
    replicates = found["bootstrap"]["num_replicates"]
    text = READING.format(replicates=replicates, baseline=found["baseline"])
    return Section("How to read the tables", text)


def _what_was_run(found: Summary) -> Section:
    """Configuration, data, machine and versions."""
    dump = need("yaml", "study", "a report").safe_dump
    yaml = dump(given(found["config"]), sort_keys=False, width=90)
    hardware, versions = found["hardware"], found["versions"]
    about: list[tuple[str, str]] = [
        ("command", f"`{found['command']}`") if found.get("command") else ("study", found["name"]),
        ("settings chosen by", metric_text(str(found["config"].get("metric", "")))),
        *((str(name), str(value)) for name, value in hardware.items() if value is not None),
        *((f"{name} version", value) for name, value in versions.items()),
    ]
    shown = [fingerprints(world) for world in found["worlds"] if world["fingerprints"]]
    names = [world_name(found, w) for w in found["worlds"] if w["fingerprints"]]
    labelled = [Table(t.header, t.rows, f"{n}: {t.caption[0].lower()}{t.caption[1:]}")
                for n, t in zip(names, shown, strict=True)]  # fmt: skip
    return Section(
        "What was run",
        tables=[Table(["What", "Value"], [list(pair) for pair in about]), *labelled],
        parts=[Section("Configuration", f"```yaml\n{yaml}```", folded=True)],
    )


def given(value: Any) -> Any:
    r"""A configuration without what was left empty.

    Example:
        >>> given({"dim": 8, "start": None, "options": {}, "student": {"model": None, "dim": 0}})
        {'dim': 8, 'student': {'dim': 0}}
    """
    if not isinstance(value, Mapping):
        return value
    kept = {key: given(of) for key, of in value.items()}
    return {key: of for key, of in kept.items() if of is not None and of != {} and of != []}


def _commands(found: Summary) -> Section:
    """The command of every run."""
    lines = []
    for world in found["worlds"]:
        for name, row in world["rows"].items():
            for seed, command in row["commands"].items():
                label = f"# {world_name(found, world)}, {name}, seed {seed}"
                lines += [label, command or "# not recorded"]
    text = "Each command runs one run again, with its setting.\n\n```sh\n" + "\n".join(lines)
    return Section("Commands", f"{text}\n```", folded=True)
