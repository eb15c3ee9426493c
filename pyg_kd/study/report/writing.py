"""Reports, written to files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyg_kd.files import atomic_write
from pyg_kd.json_files import write_json
from pyg_kd.study.report.drawing import save_figures
from pyg_kd.study.report.markdown import to_markdown
from pyg_kd.study.report.page import html_page
from pyg_kd.study.report.parts import study_section
from pyg_kd.study.report.section import Section
from pyg_kd.study.report.summarising import FORMAT, summary
from pyg_kd.study.results import Results

MARKDOWN, HTML, JSON, FIGURES = "report.md", "report.html", "summary.json", "figures"


def write_report(
    study: Results | Mapping[str, Any],
    folder: str | os.PathLike[str] | None = None,
    sections: Sequence[Section] = (),
    *,
    html: bool = True,
    progress: bool = True,
) -> Path:
    r"""Write the report of a study.

    ``report.md`` with ``figures/*.svg``, ``report.html``, which needs no other file and no
    script, and ``summary.json``, from which the same report can be written again.

    Args:
        study: The study, or its summary.
        folder: Where to; by default the folder of the study.
        sections: Further sections, such as those of an ablation or of slices.
        html: Write ``report.html``, too.
        progress: Show a progress bar.

    Returns:
        The path of ``report.md``.

    Raises:
        ImportError: If Matplotlib is missing.
        ValueError: If ``study`` is no summary, nothing was tested, or ``folder`` is missing for a
            summary.
    """
    if folder is None:
        if not isinstance(study, Results):
            raise ValueError("'folder' must be given for a summary (got None)")
        folder = study.path
    found = summary(study, progress=progress) if isinstance(study, Results) else study
    if found.get("format") != FORMAT:
        raise ValueError(f"'study' must be of format {FORMAT!r} (got {found.get('format')!r})")
    return write_section(study_section(found, sections), folder, html=html, data=found)


def write_section(
    section: Section,
    folder: str | os.PathLike[str],
    *,
    html: bool = True,
    data: Mapping[str, Any] | None = None,
) -> Path:
    r"""Write any section as a report of its own.

    Args:
        section: The report.
        folder: Where to; made if it's missing.
        html: Write ``report.html``, too.
        data: Numbers to keep beside it, as ``summary.json``.

    Returns:
        The path of ``report.md``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if data is not None:
        write_json(folder / JSON, dict(data))
    save_figures(section, folder / FIGURES)
    _write(folder / MARKDOWN, to_markdown(section, folder=FIGURES))
    if html:
        _write(folder / HTML, html_page(section))
    return folder / MARKDOWN


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")
