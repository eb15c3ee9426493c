"""The font of the formulas, for readers whose system has none for mathematics.

STIX Two Math comes with ziamath, under the SIL Open Font License; the site serves the part of it
that formulas use, with its licence in it.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx

NAME = "STIXTwoMath-Regular"
FEATURES = ["ssty", "dtls"]  # letters of indices, and without their dots below hats
#: Latin, Greek, punctuation, letterlike symbols, arrows and operators, brackets, alphabets.
BLOCKS = ((0x20, 0x180), (0x370, 0x400), (0x2000, 0x2070), (0x2100, 0x2150), (0x2190, 0x2300),
          (0x2308, 0x230C), (0x27E8, 0x27EA), (0x1D400, 0x1D800))  # fmt: skip


def write_font(target: Path) -> None:
    """The part of the font that formulas use, as a web font."""
    options = Options(
        flavor="woff", hinting=False, name_IDs=["*"], layout_features=["ssty", "dtls"]
    )
    part = Subsetter(options)
    part.populate(unicodes=[code for first, end in BLOCKS for code in range(first, end)])
    with as_file(files("ziamath.fonts") / f"{NAME}.ttf") as source, TTFont(source) as font:
        part.subset(font)
        font.flavor = "woff"
        target.parent.mkdir(parents=True, exist_ok=True)
        font.save(target)


def serve(app: Sphinx, exception: Exception | None) -> None:
    """Put it beside the style sheet that names it."""
    target = Path(app.outdir) / "_static" / f"{NAME}.woff"
    if exception is None and app.builder.format == "html" and not target.exists():
        write_font(target)


def setup(app: Sphinx) -> dict[str, Any]:
    """Write it with the pages."""
    app.connect("build-finished", serve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
