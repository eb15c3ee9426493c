"""The HTML page of a report: one file, no scripts."""

from __future__ import annotations

from html import escape

from pyg_kd.study.report.html import anchor, to_html
from pyg_kd.study.report.markup import inline
from pyg_kd.study.report.section import Section

STYLE = """\
:root { color-scheme: light dark; --ink: #1b1d1f; --soft: #565d64; --page: #fdfdfc;
  --line: #d6d9dc; --band: #f1f3f4; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --soft: #a9b1b8; --page: #15181b; --line: #3a4046; --band: #1f2428;
    --link: #7fbcff; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1.25rem 4rem; background: var(--page);
  color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: .5rem 0 1rem; }
h2 { font-size: 1.35rem; margin: 2.6rem 0 .8rem; padding-top: .6rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.1rem; margin: 1.9rem 0 .6rem; }
h4, h5, h6 { font-size: 1rem; margin: 1.4rem 0 .5rem; }
p, ul { margin: .6rem 0; max-width: 46rem; }
ul { padding-left: 1.25rem; }
li { margin: .3rem 0; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible, .scroll:focus-visible, pre:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px; }
code { font: .9em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
pre { background: var(--band); padding: .8rem 1rem; overflow-x: auto; border-radius: 6px;
  font-size: .88rem; }
pre code { overflow-wrap: normal; }
nav { margin: 1rem 0; font-size: .95rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; list-style: none; padding: 0;
  max-width: none; }
figure { margin: 1.3rem 0; }
figcaption { color: var(--soft); font-size: .92rem; margin: .4rem 0; max-width: 46rem; }
.scroll { overflow-x: auto; border-radius: 4px; }
.plot svg { display: block; width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .9rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  white-space: nowrap; vertical-align: top; }
thead th { border-bottom: 2px solid var(--ink); font-weight: 600; }
tbody th { font-weight: 500; position: sticky; left: 0; background: var(--page); min-width: 8rem;
  max-width: 15rem; white-space: normal; }
tbody tr:nth-child(even) th, tbody tr:nth-child(even) td { background: var(--band); }
.number { text-align: right; }
details { border-top: 1px solid var(--line); margin-top: 2rem; }
summary { cursor: pointer; padding: .5rem 0; }
summary h2, summary h3, summary h4 { display: inline; border: 0; margin: 0; padding: 0; }
@media (max-width: 34rem) { body { padding: 1rem .9rem 3rem; } h1 { font-size: 1.4rem; }
  th, td { padding: .34rem .5rem; } tbody th { min-width: 0; max-width: 8.5rem; } }
@media print { body { max-width: none; } details > * { display: block; } }
"""


def html_page(section: Section) -> str:
    r"""A whole page, with its style and its figures inside.

    Args:
        section: The report; its parts are listed at the top.

    Example:
        >>> html_page(Section("A study")).splitlines()[:2]
        ['<!DOCTYPE html>', '<html lang="en">']
    """
    top = anchor(section.title)
    links = "\n".join(
        f'<li><a href="#{anchor(part.title, top)}">{inline(part.title)}</a></li>'
        for part in section.parts
    )
    contents = f'<nav aria-label="Contents"><ul>\n{links}\n</ul></nav>' if links else ""
    body = to_html(section).replace("</h1>", f"</h1>\n{contents}", 1)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(section.title)}</title>\n<style>\n{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )
