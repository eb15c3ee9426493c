"""Before, during and after training: is there something to learn, and is it being learned?"""

from pyg_kd.training.diagnostics.callback import Diagnostics
from pyg_kd.training.diagnostics.figure import plot_diagnostics
from pyg_kd.training.diagnostics.preflight import Opponent, TeacherVerdict, diagnose_teacher

__all__ = ["Diagnostics", "Opponent", "TeacherVerdict", "diagnose_teacher", "plot_diagnostics"]
