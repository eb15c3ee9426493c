"""Evidence: studies that rerun, ablations, refresh policies and simulated experiments."""

from pyg_kd.study.ablation import Ablation, ablate, ablation_of, ablation_section
from pyg_kd.study.conducting import run_study
from pyg_kd.study.config import read_config
from pyg_kd.study.records import Record
from pyg_kd.study.report import summary, write_report
from pyg_kd.study.results import Results
from pyg_kd.study.tuning import Tuning, tune, tuning_section
from pyg_kd.study.verifying import verify_study

__all__ = [
    "Ablation",
    "Record",
    "Results",
    "Tuning",
    "ablate",
    "ablation_of",
    "ablation_section",
    "read_config",
    "run_study",
    "summary",
    "tune",
    "tuning_section",
    "verify_study",
    "write_report",
]
