"""Put the raw MovieLens-100K interactions into a folder.

The wheel of RecBole on the package registry carries them. It is only unpacked, never
installed or imported. The terms of GroupLens forbid redistribution: do not commit the file.

    python examples/fetch_movielens.py data/ml-100k/raw
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "recbole==1.2.1"
MEMBER = "recbole/dataset_example/ml-100k/ml-100k.inter"
HEADER = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
NUM_RATINGS = 100_000


def check(path: Path) -> None:
    with path.open(encoding="utf-8") as lines:
        header = next(lines).split()
        count = sum(1 for line in lines if line.strip())
    if header != HEADER or count != NUM_RATINGS:
        raise SystemExit(f"'{path}' is not MovieLens-100K: header {header}, {count} ratings")


def main(folder: Path) -> None:
    target = folder / "ml-100k.inter"
    if not target.exists():
        with tempfile.TemporaryDirectory() as tmp:
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", tmp, WHEEL]
            subprocess.run(pip, check=True)
            (wheel,) = Path(tmp).glob("*.whl")
            part = Path(tmp) / "ml-100k.inter"
            with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source:
                part.write_bytes(source.read())
            check(part)
            folder.mkdir(parents=True, exist_ok=True)
            shutil.move(part, target)
    check(target)
    print(target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: {sys.argv[0]} FOLDER")
    try:
        main(Path(sys.argv[1]))
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{WHEEL} could not be downloaded ({error})") from None
