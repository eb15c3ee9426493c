"""HetComp: the method, where its student stands on the trajectories, and its losses."""

from pyg_kd.distill.het_comp.method import HetComp

__all__ = ["HetComp"]
