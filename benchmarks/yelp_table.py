"""The table that ``configs/yelp_*.yaml`` read, from Yelp's reviews: those of four stars and more.

    python benchmarks/yelp_table.py data/yelp

The folder holds ``yelp_academic_dataset_review.json``, and gets ``interactions.csv``.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from pyg_kd.files import atomic_write


def write_table(folder: Path) -> int:
    """Write a line for every such review: how many."""
    count = 0
    with (
        (folder / "yelp_academic_dataset_review.json").open(encoding="utf-8") as reviews,
        atomic_write(folder / "interactions.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(("user", "item"))
        for line in reviews:
            review = json.loads(line)
            if review["stars"] >= 4:
                table.writerow((review["user_id"], review["business_id"]))
                count += 1
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    print(write_table(parser.parse_args().folder), "interactions")
