"""The documentation: Markdown pages, executed tutorials, and an API from the docstrings.

Nothing here or on the pages asks the network: ``make docs`` works offline, and so does the site.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

# Kernels of the tutorials import the figures of `_ext` and find `pyg-kd` beside their Python.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (str(HERE / "_ext"), os.environ.get("PYTHONPATH")))
)
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYTHONWARNINGS"] = "ignore:IProgress"  # of a progress bar that needs widgets

from fingerprint import package_fingerprint  # noqa: E402

import pyg_kd  # noqa: E402

project = "pyg_kd"
author = "the pyg_kd contributors"
copyright = author
version = release = pyg_kd.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "source_links",  # one way only
    "sphinx_copybutton",
    "mathml",  # maths that needs no scripts
    "math_font",  # and looks the same everywhere
    "room",  # one page a subpackage
    "same_object",  # a name leads to where the object is documented
    "shell_cells",  # commands are shown as in a shell
    "repository_links",  # the README of GitHub is the front page here
]
exclude_patterns = ["_build", "_ext", "**/.ipynb_checkpoints"]
nitpicky = True
# What other projects document: their inventories would have to be fetched.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(torch|torch_geometric|numpy|scipy|pandas|pyarrow|networkx|matplotlib|starlette|argparse)"
        r"\b.*",
    ),
    (r"py:.*", r"(collections|typing|types|pathlib|os|abc|enum|datetime)\b.*"),
    (r"py:(class|obj|exc)", r"[a-z]+|True|False|None"),  # int, list, callable ...
]
linkcheck_timeout = 20

# Pages
myst_enable_extensions = ["amsmath", "attrs_block", "attrs_inline", "colon_fence", "deflist",
                          "dollarmath", "html_image"]  # fmt: skip
myst_heading_anchors = 4
myst_dmath_double_inline = True

# Tutorials are executed once for each state of the package and of their own cells.
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "executed" / package_fingerprint(HERE.parent))
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_show_tb = True
nb_merge_streams = True
nb_render_markdown_format = "myst"  # tables that cells print
nb_ipywidgets_js = {}  # they would come from the network

# The API
autodoc_default_options = {"member-order": "bysource"}
add_module_names = False
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_preprocess_types = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

# The site
html_theme = "furo"
html_title = "pyg_kd"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_theme_options = {"navigation_with_keys": True}
html_show_sphinx = False
html_math_renderer = "mathml"
pygments_style = "friendly"
pygments_dark_style = "monokai"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
