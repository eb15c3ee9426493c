"""Put the raw MovieLens-100K interactions and the titles of the films into a folder.

The wheel of RecBole on the package registry carries them. It is compared with its checksum before
anything opens it, two files are taken out, and it is never installed or imported. The terms of
GroupLens forbid redistribution: do not commit the files.

    python examples/fetch_movielens.py data/ml-100k/raw
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "recbole==1.2.1"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
MEMBERS = {
    "recbole/dataset_example/ml-100k/ml-100k.inter": (
        "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"
    ),
    "recbole/dataset_example/ml-100k/ml-100k.item": (
        "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532"
    ),
}


def check(content: bytes, sha256: str, name: object) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SystemExit(f"'{name}' must have the sha256 {sha256} (got {found}): delete it")


def download(folder: Path) -> Path:
    """The wheel, whose checksum pip compares too, before it looks inside."""
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n")
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", requirement]
    pip = [sys.executable, "-m", "pip", "download", "-q", *options, "-d", folder]
    subprocess.run(list(map(str, pip)), check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def take_out(wheel: Path, member: str, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(member)
    check(content, MEMBERS[member], member)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")  # so that half a file never has the name
    part.write_bytes(content)
    part.replace(target)


def main(folder: Path) -> None:
    targets = {member: folder / Path(member).name for member in MEMBERS}
    missing = [member for member, target in targets.items() if not target.exists()]
    if missing:
        with tempfile.TemporaryDirectory() as temporary:
            wheel = download(Path(temporary))
            check(wheel.read_bytes(), WHEEL_SHA256, wheel)
            for member in missing:
                take_out(wheel, member, targets[member])
    for member, target in targets.items():
        check(target.read_bytes(), MEMBERS[member], target)
        print(target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: {sys.argv[0]} FOLDER")
    try:
        main(Path(sys.argv[1]))
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{WHEEL} could not be downloaded ({error})") from None
