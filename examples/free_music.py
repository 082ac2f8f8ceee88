"""Freely licensed music to train on and to test with: soundtracks of games, from Debian's archive.

    python examples/free_music.py FOLDER

downloads five packages by ``apt-get`` and unpacks them by ``dpkg`` (Debian and Ubuntu), which needs
no rights, into FOLDER/train (3.4 hours, 151 files) and FOLDER/held-out (3.2 hours, 18 files). The
licence of each lies beside it as ``copyright.txt``. Held out are one soundtrack as a whole and
every fifth piece of another. Earlier or other versions of pieces that are held out are left out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = (
    "asc-music",
    "hyperrogue-music",
    "singularity-music",
    "wesnoth-1.16-music",
    "planetblupi-music-ogg",
)
HELD_OUT, DIVIDED = "planetblupi-music-ogg", "wesnoth-1.16-music"
LEFT_OUT = ("defeat2.ogg", "frantic-old.ogg")  # akin to pieces that are held out
ENDINGS = (".ogg", ".mp3", ".opus")


def main() -> None:
    """Fetch, unpack, divide."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        sys.exit("this needs apt-get and dpkg, as on Debian and Ubuntu")
    folder = Path(sys.argv[1])
    for package in PACKAGES:
        files = fetch(package, folder)
        sys.stdout.write(f"{package}: {files} files\n")


def fetch(package: str, folder: Path) -> int:
    """One package; returns the number of its files."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        subprocess.run(["apt-get", "download", "-qq", package], cwd=scratch, check=True)
        (archive,) = scratch.glob("*.deb")
        subprocess.run(["dpkg", "-x", archive, scratch / "tree"], check=True)
        music = sorted(p for p in (scratch / "tree").rglob("*") if p.suffix in ENDINGS)
        for number, path in enumerate(music, start=1):
            place = folder / part_of(package, number, path.name) / package
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place / path.name)
        licence = scratch / "tree" / "usr" / "share" / "doc" / package / "copyright"
        for place in folder.glob(f"*/{package}"):
            shutil.copyfile(licence, place / "copyright.txt")
    return len(music)


def part_of(package: str, number: int, name: str) -> str:
    """Where the n-th file of a package belongs, counted from 1."""
    if package == HELD_OUT or (package == DIVIDED and number % 5 == 0):
        return "held-out"
    return "left-out" if package == DIVIDED and name in LEFT_OUT else "train"


if __name__ == "__main__":
    main()
