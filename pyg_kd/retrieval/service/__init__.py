"""Serving a bundle over HTTP; needs the extra ``serve``."""

from __future__ import annotations

from pyg_kd.retrieval.service.app import create_app
from pyg_kd.retrieval.service.options import Limits
from pyg_kd.retrieval.service.server import serve

__all__ = ["Limits", "create_app", "serve"]
