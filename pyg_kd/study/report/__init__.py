"""Reports of studies, in Markdown and as one HTML page."""

from __future__ import annotations

from pyg_kd.study.report.drawing import save_figures
from pyg_kd.study.report.html import to_html
from pyg_kd.study.report.markdown import to_markdown
from pyg_kd.study.report.parts import study_section
from pyg_kd.study.report.section import Figure, Section, Table
from pyg_kd.study.report.summarising import summary
from pyg_kd.study.report.writing import write_report, write_section

__all__ = [
    "Figure",
    "Section",
    "Table",
    "save_figures",
    "study_section",
    "summary",
    "to_html",
    "to_markdown",
    "write_report",
    "write_section",
]
