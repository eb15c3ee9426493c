"""Models that map a graph to representations; each can be a teacher or a student."""

from pyg_kd.models.base import Recommender
from pyg_kd.models.bspm import BSPM
from pyg_kd.models.cml import CML
from pyg_kd.models.ease import EASE
from pyg_kd.models.gfcf import GFCF
from pyg_kd.models.item_ae import ItemAE
from pyg_kd.models.kernel_ridge import KernelRidge
from pyg_kd.models.lightgcn import LightGCN
from pyg_kd.models.mf import MF
from pyg_kd.models.mult_vae import MultVAE
from pyg_kd.models.multi_branch import MultiBranch
from pyg_kd.models.neighbors import ItemKNN, UserKNN
from pyg_kd.models.neumf import NeuMF
from pyg_kd.models.ngcf import NGCF
from pyg_kd.models.quantization_aware import QuantizationAware
from pyg_kd.models.slim import SLIM

__all__ = [
    "Recommender",
    "MF",
    "LightGCN",
    "NGCF",
    "QuantizationAware",
    "CML",
    "NeuMF",
    "MultiBranch",
    "MultVAE",
    "ItemAE",
    "KernelRidge",
    "GFCF",
    "BSPM",
    "EASE",
    "ItemKNN",
    "UserKNN",
    "SLIM",
]
