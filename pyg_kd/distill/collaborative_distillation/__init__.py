"""CD: the method, and the law by which it draws items."""

from pyg_kd.distill.collaborative_distillation.method import CollaborativeDistillation

__all__ = ["CollaborativeDistillation"]
