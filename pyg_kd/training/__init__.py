"""The loop: base loss plus a list of distillations; alternating least squares."""

from pyg_kd.training.als import AlternatingLeastSquares
from pyg_kd.training.catalogue_softmax import CatalogueSoftmax
from pyg_kd.training.compression import compress
from pyg_kd.training.compression_report import CompressionReport
from pyg_kd.training.diagnostics import Diagnostics, diagnose_teacher, plot_diagnostics
from pyg_kd.training.divergence import TrainingDiverged
from pyg_kd.training.ensemble import Ensemble, train_ensemble
from pyg_kd.training.history import History
from pyg_kd.training.losses import BPR, SampledSoftmax
from pyg_kd.training.recipes import lightgcn_teacher
from pyg_kd.training.trainer import Trainer
from pyg_kd.training.validation import validate

__all__ = [
    "AlternatingLeastSquares",
    "BPR",
    "CatalogueSoftmax",
    "CompressionReport",
    "Diagnostics",
    "Ensemble",
    "History",
    "SampledSoftmax",
    "Trainer",
    "TrainingDiverged",
    "compress",
    "diagnose_teacher",
    "lightgcn_teacher",
    "plot_diagnostics",
    "train_ensemble",
    "validate",
]
