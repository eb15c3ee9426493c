"""The built site is complete: nothing from the network, no dead link, no public name left out.

    python docs/_ext/check_site.py docs/_build/html

Prints what is wrong and exits with 1, or with 0 if nothing is.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from same_object import imported

#: What a browser fetches by itself, by tag.
FETCHED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src",
           "video": "src", "audio": "src", "embed": "src", "object": "data"}  # fmt: skip
#: Relations of ``<link>`` that are no resource.
UNFETCHED = {"canonical", "author", "index", "search", "next", "prev", "top", "license"}
IN_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?\s*((?:https?:)?//[^"')\s]+)""")


class Page(HTMLParser):
    """What a page fetches, where it leads and what can be led to."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.fetched: list[str] = IN_STYLE.findall(text)
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one tag."""
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        relations = set(found.get("rel", "").split()) if tag == "link" else set()
        if FETCHED.get(tag) in found and not relations & UNFETCHED:
            self.fetched.append(found[FETCHED[tag]])


def remote(address: str) -> bool:
    """Whether it leaves the site."""
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme in ("http", "https", "ftp")


def problems(root: Path) -> list[str]:
    """What is wrong with the pages below a folder."""
    pages = {path: Page(path.read_text()) for path in sorted(root.rglob("*.html"))}
    found = [f"there is no page in {root}"] if not pages else []
    for path, page in pages.items():
        name = path.relative_to(root)
        for address in page.fetched:
            if remote(address):
                found.append(f"{name} fetches {address}")
            elif not_there(address, path, root, pages):
                found.append(f"{name} needs {address}, which is not there")
        for address in page.links:
            if not remote(address) and not_there(address, path, root, pages):
                found.append(f"{name} leads to {address}, which is not there")
    for path in sorted(root.rglob("*.css")):
        found += [
            f"{path.relative_to(root)} fetches {a}" for a in IN_STYLE.findall(path.read_text())
        ]
    return found


def not_there(address: str, path: Path, root: Path, pages: dict[Path, Page]) -> bool:
    """Whether a link within the site leads nowhere."""
    parts = urlsplit(address)
    if parts.scheme in ("mailto", "data", "javascript"):
        return False
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file() or root.resolve() not in target.resolve().parents:
        return True
    anchor = unquote(parts.fragment)
    known = pages.get(target) or pages.get(path if target == path else root / target)
    return bool(anchor) and known is not None and anchor not in known.anchors


def unexplained(root: Path) -> list[str]:
    """Public names that no page of the API describes."""
    api = "".join(path.read_text() for path in sorted((root / "api").glob("*.html")))
    anchors = set(re.findall(r'id="(pyg_kd\.[\w.]+)"', api))
    described = {id(value) for value in map(imported, anchors) if value is not None}
    return [f"{name} is described nowhere" for name in public_names()
            if name not in anchors and id(imported(name)) not in described]  # fmt: skip


def public_names() -> list[str]:
    """What the package and its subpackages export, modules and the version aside."""
    import pyg_kd

    names = ["pyg_kd"]
    names += [m.name for m in pkgutil.walk_packages(pyg_kd.__path__, "pyg_kd.") if m.ispkg]
    found = [(n, e) for n in names for e in getattr(importlib.import_module(n), "__all__", ())]
    pairs = [(n, e) for n, e in found if e != "__version__"]
    return [f"{n}.{e}" for n, e in pairs if not inspect.ismodule(imported(f"{n}.{e}"))]


if __name__ == "__main__":
    folder = Path(sys.argv[1]).resolve()
    wrong = problems(folder) or unexplained(folder)
    print("\n".join(wrong) or f"{folder.name}: no request leaves the site, and no link is dead")
    raise SystemExit(bool(wrong))
