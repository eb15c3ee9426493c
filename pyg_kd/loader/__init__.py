"""Interactions -> batches, on the device of the graph."""

from pyg_kd.loader.interaction_loader import InteractionLoader

__all__ = ["InteractionLoader"]
