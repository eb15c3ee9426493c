"""A page that shows a student's lists beside its teacher's, and why an item is in them."""

from __future__ import annotations

from pyg_kd.retrieval.service.page.answers import Models
from pyg_kd.retrieval.service.page.handlers import routes

__all__ = ["Models", "routes"]
