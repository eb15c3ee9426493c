"""The command ``extract``."""

from __future__ import annotations

from pyg_kd.cli.options.extract import Extracted, Shards
from pyg_kd.cli.options.sharing import Sharing


def extract(extracted: Extracted, shards: Shards, sharing: Sharing) -> None:
    """Write what a trained model knows as Parquet files: embeddings, and lists with scores.

    load_shards of pyg_kd.knowledge attaches them to the training graph, to be distilled. Files
    carry digests, and are the same bytes whatever the number of workers, and after a crash.
    """
    from pyg_kd.cli.pipeline.extract import run_extraction

    run_extraction(extracted, shards, sharing)
