"""The page of simulated experiments, from ``results/simulation.json``."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean, median, stdev
from typing import TYPE_CHECKING, Any

from pyg_kd.study.report import Figure, Section, Table
from pyg_kd.study.simulation import Week, feedback_section

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

TEXT = """\
What would a visitor notice? On a synthetic graph whose tastes are known, the true difference
between two models is computed exactly, and each way of measuring it online can be held against
it. Visitors are simulated and click by position and taste, as `PositionBias` says; the size of a
lift is this world's and no real service's. What carries over is how well the methods measure, and
how many visitors they need. Numbers rerun by `python benchmarks/simulation.py` with
`calibration`, `models`, `story`, `worlds` or `feedback`."""

CALIBRATION = """\
Each test over {runs:,} simulated experiments, of 400 visitors or logged visits. Treated alike,
one experiment in twenty may differ; a known value lies in its 95 % interval in nineteen of
twenty. CUPED, with the clicks before as covariate, removes {plain:.0%} of the variance of clicks
per visitor here, as much as visitors differ from each other. Estimates from a log rest on
{effective:.0f} effective visits of 400."""

STORY = """\
A LightGCN of width 64 teaches a student of width 8; the student alone has the same size and its
own interactions, and is served today. *Shared* is how many of ten places hold the same items. Of
the {intervals} intervals of A/B tests {missed} not hold the true lift, as one in twenty does not.
To find that the student is better, an A/B test needs {ratio:.1f} times as many visitors as
interleaving; see other worlds below."""

WORLDS = """\
One world is one draw. In {worlds} others, of the same size and with models trained anew, the
student's true lift over the student alone is {student} and the teacher's {teacher}; the teacher is
above its student in {above} of them. Of the {intervals} intervals of A/B tests, with and without
CUPED, {held} hold the true lift. That the student is better is found (p < .05) by {plain} A/B tests
of 20,000 visitors, by {cuped} with CUPED and by {interleaved} interleaved ones. Interleaving needs
fewer visitors in {fewer} of the worlds; by the median, an A/B test needs {ratio:.1f} times as many,
so what it saved above was luck in part. Where the lift is small it can see none at all: which list
a click is credited to is not how many clicks there are."""

OFF_POLICY = """\
In place of an experiment, {visits} logged visits of the student alone, half of which show a
random order of its first 20 or 60 items. *Missing* is the share of the target's places that hold
items which the log cannot show there: no estimator knows what they would get. With a fifth
missing, inverse propensities count it as nothing and their intervals lie below the truth; the
others fill it with what they do know, and that they come close is luck. A deeper pool misses
little and leaves few effective visits: the truth lies in wide intervals. Mean weights below 1
tell what is missing without knowing the truth."""

LATENCY = """\
The true lift of the student over the teacher, if for each 100 ms of waiting some share of the
visits is lost: an assumption, which `LatencyEffect` takes from the reader. The latencies measured
here differ by less than a millisecond where representations are stored, and by {gap:.0f} ms where
the teacher propagates at every request: no published claim turns that into a visible effect."""

FEEDBACK = """\
Every week half of the users come, and what they click becomes part of the graph; the teacher, or
the teacher and its student, are trained again. Tastes stay as they are, and what a user has
clicked is not listed again. *Random* and *ideal*, which serves what pleases each user most, are
the ends. What is served gets more concentrated in the worlds of: {served}; the graph in those of:
{known}."""


def section(result: dict[str, Any]) -> Section:
    """The page."""
    parts = [_calibration(result["calibration"])]
    if "story" in result:
        story, *others = _story(result["models"], result["story"])
        parts += [story, _worlds(result["worlds"]), *others]
    if "feedback" in result:
        parts.append(_feedback(result["feedback"]))
    seconds = sum(result["CPU seconds"].values())
    return Section("Online experiments, simulated", f"{TEXT} All of it takes {seconds:.0f} CPU "
                   "seconds.", parts=parts)  # fmt: skip


def _calibration(found: dict[str, Any]) -> Section:
    rows = [
        [name, f"{of['value']:.1%}", f"{of['interval'][0]:.1%} to {of['interval'][1]:.1%}",
         "5 %" if name.startswith("alike") else "95 %"]
        for name, of in found.items() if isinstance(of, dict)
    ]  # fmt: skip
    text = CALIBRATION.format(
        runs=found["alike: A/B"]["runs"],
        plain=found["known lift: A/B, CUPED, variance removed"],
        effective=found["effective visits of an estimate"],
    )
    header = ["Experiment", "Measured", "95 % interval", "Wanted"]
    caption = "Alike: how often a difference was found. Known: how often the interval held it."
    return Section("Calibration", text, [Table(header, rows, caption)])


def _story(models: dict[str, Any], story: dict[str, Any]) -> list[Section]:
    value = models["clicks a visit"]
    recall = models["recall@20"]
    names = ["Model", "Clicks a visit, exact", "Recall@20"]
    who = Table(names, [[name, of, recall.get(name)] for name, of in value.items()])
    found = story["experiments"]
    lifts = Table(
        ["Treatment", "Shared", "True lift", "A/B", "A/B, CUPED", "Interleaving, p"],
        [
            [name, f"{one['shared']:.0%}", f"{one['true lift']:+.1%}", _lift(one["plain"]),
             _lift(one["cuped"]), _p(one["interleaving"]["p_value"])]
            for name, one in found.items()
        ],
        "20,000 visitors each, three visits on average. Lifts of clicks per visitor over the "
        "student alone, with 95 % intervals.",
    )  # fmt: skip
    kinds = ["A/B", "A/B, CUPED", "interleaving"]
    needed = Table(
        ["Treatment", *kinds],
        [[name, *(one["needed"].get(kind) for kind in kinds)] for name, one in found.items()],
        "Visitors needed for a power of 80 %.",
    )
    figures = [_power(story["power"])]
    return [
        Section("What an experiment finds", _told(found), [who, lifts, needed], figures),
        _off_policy(story["off-policy"]),
        _latency(story["latency"]),
    ]


def _worlds(found: dict[str, Any]) -> Section:
    names = ("student", "teacher", "popularity")
    lifts = {name: [of[name]["true lift"] for of in found.values()] for name in names}
    recall = {
        name: [of["recall@20"][name] for of in found.values()]
        for name in ("student alone", "student", "teacher")
    }
    held = [hold for of in found.values() for hold in _held({name: of[name] for name in names})]
    needed = [of["student"]["needed"] for of in found.values()]
    ratios = [of["A/B"] / of["interleaving"] for of in needed]
    students = [of["student"] for of in found.values()]
    better = {
        name: sum(of[kind][effect] > 0 and of[kind][p] < 0.05 for of in students)
        for name, kind, effect, p in (
            ("plain", "plain", "lift", "p"),
            ("cuped", "cuped", "lift", "p"),
            ("interleaved", "interleaving", "effect", "p_value"),
        )
    }
    above = sum(t > s for s, t in zip(lifts["student"], lifts["teacher"], strict=True))
    text = WORLDS.format(
        worlds=len(found), student=_spread(lifts["student"], "+.1%"),
        teacher=_spread(lifts["teacher"], "+.1%"), above=above, intervals=len(held),
        held=sum(held), **better,
        fewer=sum(ratio > 1 for ratio in ratios), ratio=median(ratios),
    )  # fmt: skip
    rows: list[list[object]] = [
        [f"true lift: {name}", _spread(of, "+.1%"), _range(of, "+.1%")]
        for name, of in lifts.items()
    ]
    rows += [
        [f"Recall@20: {name}", _spread(of, ".4f"), _range(of, ".4f")] for name, of in recall.items()
    ]
    for kind in ("A/B", "A/B, CUPED", "interleaving"):
        of = [one[kind] for one in needed]
        rows.append([f"visitors needed: {kind}", f"{median(of):,.0f} (median)", _range(of, ",.0f")])
    header = ["", "Mean and deviation", "Least to greatest"]
    return Section("In other worlds", text, [Table(header, rows)])


def _held(found: dict[str, Any]) -> list[bool]:
    """Whether each interval of an A/B test holds the true lift."""
    return [
        one[kind]["interval"][0] <= one["true lift"] <= one[kind]["interval"][1]
        for one in found.values()
        for kind in ("plain", "cuped")
    ]


def _told(found: dict[str, Any]) -> str:
    held = _held(found)
    missed = len(held) - sum(held)
    needed = found["student"]["needed"]
    return STORY.format(
        intervals=len(held),
        missed=f"{missed or 'none'} {'does' if missed <= 1 else 'do'}",
        ratio=needed["A/B"] / needed["interleaving"],
    )


def _power(power: dict[str, Any]) -> Figure:
    kinds = ["A/B", "A/B, CUPED", "interleaving"]

    def draw(figure: Canvas) -> None:
        axes = figure.subplots()
        for kind in kinds:
            axes.plot(
                [int(n) for n in power], [of[kind] for of in power.values()], "o-", label=kind
            )
        axes.axhline(0.8, linewidth=0.8, color="C7")
        axes.set_xscale("log")
        axes.set_xlabel("visitors")
        axes.set_ylabel("share of experiments that find it")
        axes.legend()

    said = "; ".join(
        f"{n} visitors: " + ", ".join(f"{kind} {of[kind]:.0%}" for kind in kinds)
        for n, of in power.items()
    )
    caption = "How often 1,000 experiments find the closest of the treatments, by their size."
    return Figure("simulation-power", draw, caption, f"Three rising curves. {said}")


def _off_policy(found: dict[str, Any]) -> Section:
    header = ["Pool: target", "Truth", "Missing", "Mean weight", "Effective visits", "IPS", "SNIPS",
              "Doubly robust"]  # fmt: skip
    rows = [
        [name.removeprefix("pool of "), of["truth"], f"{of['missing support']:.0%}",
         f"{of['mean weight']:.2f}", round(of["effective"]),
         *(_value(of[kind]) for kind in ("ips", "snips", "dr"))]
        for name, of in found.items()
    ]  # fmt: skip
    return Section(
        "Without an experiment: estimates from a log",
        OFF_POLICY.format(visits="200,000"),
        [Table(header, rows, "Clicks a visit with 95 % intervals, users as units.")],
    )


def _latency(found: dict[str, Any]) -> Section:
    shares = [key for key in next(iter(found.values())) if key.startswith("lift at")]
    header = ["Latencies", *(key.removeprefix("lift at ") for key in shares)]
    rows = [[name, *(f"{of[key]:+.2%}" for key in shares)] for name, of in found.items()]
    ms = found["measured, teacher propagates at each request"]["milliseconds"]
    text = LATENCY.format(gap=ms["teacher"] - ms["student"])
    return Section("What waiting costs", text, [Table(header, rows, "Lost per 100 ms.")])


def _feedback(found: dict[str, Any]) -> Section:
    weeks = {name: [Week(**week) for week in of] for name, of in found.items()}
    drawn = feedback_section(weeks, "Feedback over eight weeks")
    figure = replace(drawn.figures[0], name="simulation-weeks")
    grown = {
        key: [name for name, of in found.items() if of[-1][key] - of[0][key] > 0.005]
        for key in ("gini_served", "gini_known")
    }
    served, known = (", ".join(names) or "none" for names in grown.values())
    text = FEEDBACK.format(served=served, known=known)
    return replace(drawn, text=text, figures=[figure])


def _lift(of: dict[str, Any]) -> str:
    low, high = of["interval"]
    return f"{of['lift']:+.1%} ({low:+.1%} to {high:+.1%})"


def _value(of: dict[str, Any]) -> str:
    low, high = of["interval"]
    return f"{of['value']:.3f} ({low:.3f} to {high:.3f})"


def _spread(values: list[float], form: str) -> str:
    return f"{mean(values):{form}} ± {stdev(values):{form.lstrip('+')}}"


def _range(values: list[float], form: str) -> str:
    return f"{min(values):{form}} to {max(values):{form}}"


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}"
