"""HetComp: the method, the teachers' states that a student aims at, and the losses."""

from pyg_kd.distill.het_comp.method import HetComp

__all__ = ["HetComp"]
