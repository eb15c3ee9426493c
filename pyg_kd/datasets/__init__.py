"""Data sets: files and tables to user-item graphs."""

from pyg_kd.datasets.amazon_book import AmazonBook
from pyg_kd.datasets.citeulike import CiteULike
from pyg_kd.datasets.gowalla import Gowalla
from pyg_kd.datasets.lightgcn_benchmark import LightGCNBenchmark
from pyg_kd.datasets.movielens_100k import MovieLens100K
from pyg_kd.datasets.stream_tastes import taste_probabilities
from pyg_kd.datasets.synthetic import SyntheticInteractions
from pyg_kd.datasets.synthetic_stream import SyntheticStream
from pyg_kd.datasets.tables import from_interactions
from pyg_kd.datasets.yelp2018 import Yelp2018

__all__ = [
    "AmazonBook",
    "CiteULike",
    "Gowalla",
    "LightGCNBenchmark",
    "MovieLens100K",
    "SyntheticInteractions",
    "SyntheticStream",
    "Yelp2018",
    "from_interactions",
    "taste_probabilities",
]
