"""The options of the command ``study``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Studied:
    """What is studied

    Args:
        file: The configuration, a YAML file.
        out: Folder of the study; by default out/NAME.
        datasets: These data sets alone, by their names in the configuration.
        worlds: These worlds alone.
        methods: These rows alone; ["a, b"] for a name with a comma.
        seeds: These seeds alone.
        roots: Folders of the files of data sets, such as --roots.movielens data/ml.
    """

    file: str = field(metadata={"positional": True})
    out: str | None = None
    datasets: list[str] | None = None
    worlds: list[str] | None = None
    methods: list[str] | None = None
    seeds: list[int] | None = None
    roots: dict[str, str] | None = None


@dataclass(frozen=True)
class Studying:
    """How it runs

    Args:
        jobs: Runs at a time, each in a process of its own.
        threads: Threads of a run.
        minutes: Start no run after so many minutes; give the command again to go on.
        report: Write the report.
        report_only: Run nothing, write the report.
        save: Write the summary to the file that the configuration names as its results.
        progress: Show progress on standard error.
    """

    jobs: int = 1
    threads: int = 1
    minutes: float | None = None
    report: bool = True
    report_only: bool = False
    save: bool = False
    progress: bool = True


@dataclass(frozen=True)
class Again:
    """Rows that are run again

    Args:
        run: Run this row again, by its key, and compare with what is stored.
        verify: Run so many rows again, drawn at random, or these, by their keys with commas
            between.
        draw: Seed of the draw.
    """

    run: str | None = None
    verify: str | None = None
    draw: int = 0
