"""The little of Markdown that the texts of a report use, as HTML."""

from __future__ import annotations

import re
from html import escape

PATTERN = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\*\*(?P<strong>[^*]+)\*\*"
    r"|\*(?P<em>[^*\s](?:[^*]*[^*\s])?)\*"
    r"|\[(?P<label>[^\]]+)\]\((?P<url>[^)\s]+)\)"
)


def inline(text: str) -> str:
    r"""Emphasis, code and links of a line; everything else is escaped.

    Example:
        >>> inline("*p* < `a*b`, see [there](https://example.org)")
        '<em>p</em> &lt; <code>a*b</code>, see <a href="https://example.org">there</a>'
    """
    found, end = [], 0
    for match in PATTERN.finditer(text):
        found += [escape(text[end : match.start()], quote=False), _element(match)]
        end = match.end()
    return "".join([*found, escape(text[end:], quote=False)])


def _element(match: re.Match[str]) -> str:
    kind = match.lastgroup or ""
    if kind == "url":
        return f'<a href="{escape(match["url"])}">{inline(match["label"])}</a>'
    inner = escape(match[kind], quote=False) if kind == "code" else inline(match[kind])
    return f"<{kind}>{inner}</{kind}>"


def blocks(text: str) -> str:
    r"""Paragraphs, lists and fenced code.

    Example:
        >>> blocks("One.\n\n- two\n- three")
        '<p>One.</p>\n<ul>\n<li>two</li>\n<li>three</li>\n</ul>'
    """
    return "\n".join(map(_block, _split(text)))


def _split(text: str) -> list[list[str]]:
    """The lines of each block: fenced code is one, whatever it holds."""
    found: list[list[str]] = [[]]
    fenced = False
    for line in text.strip().splitlines():
        fence = line.startswith("```")
        if not fenced and (fence or not line.strip()):
            found.append([])
        if fenced or line.strip():
            found[-1].append(line)
        if fence and fenced:
            found.append([])
        fenced ^= fence
    return [block for block in found if block]


def _block(lines: list[str]) -> str:
    if lines[0].startswith("```"):
        code = [line for line in lines if not line.startswith("```")]
        return f'<pre tabindex="0"><code>{escape(chr(10).join(code), quote=False)}</code></pre>'
    if not lines[0].startswith("- "):
        return f"<p>{inline(' '.join(map(str.strip, lines)))}</p>"
    items: list[str] = []
    for line in lines:
        if line.startswith("- "):
            items.append(line[2:])
        else:  # the item goes on
            items[-1] += f" {line.strip()}"
    return "\n".join(["<ul>", *(f"<li>{inline(item)}</li>" for item in items), "</ul>"])
