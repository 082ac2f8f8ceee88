"""Freely licensed music to train on and to test with: soundtracks of games, from Debian's archive.

    python examples/free_music.py FOLDER [--small]

downloads packages by ``apt-get`` and unpacks them by ``dpkg`` (Debian and Ubuntu), which needs no
rights, into FOLDER/train and FOLDER/held-out: 30 and 4 packages, 2.6 GB to download; with
``--small`` the five of them that make 0.3 GB. The licence of each lies beside it as
``copyright.txt``. Held out are three soundtracks as a whole and every fifth piece of another.
Left out are earlier or other versions of pieces that are held out, and what is too short to be
music. What could not be fetched is named at the end.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

SMALL = (
    "asc-music",
    "hyperrogue-music",
    "singularity-music",
    "wesnoth-1.16-music",
    "planetblupi-music-ogg",
)
MORE = (
    "amoebax-data",
    "drascula-music",
    "enigma-data",
    "extremetuxracer-data",
    "freedroidrpg-data",
    "fretsonfire-songs-muldjord",
    "fretsonfire-songs-sectoid",
    "frozen-bubble-data",
    "hedgewars-data",
    "lincity-ng-data",
    "lordsawar-data",
    "marsshooter-data",
    "naev-data",
    "nexuiz-music",
    "noiz2sa-data",
    "openclonk-data",
    "pathological",
    "pushover-data",
    "starfighter-data",
    "supertux-data",
    "trackballs-data",
    "ufoai-music",
    "unknown-horizons",
    "warmux-data",
    "warzone2100-music",
    "wordwarvi-sound",
    "xmoto-data",
    "zaz-data",
)
HELD_OUT = ("planetblupi-music-ogg", "freedroidrpg-data", "marsshooter-data")
DIVIDED = "wesnoth-1.16-music"
LEFT_OUT = ("defeat2.ogg", "frantic-old.ogg")  # akin to pieces that are held out
ENDINGS = (".ogg", ".mp3", ".opus")
ARCHIVE = ".pk3"  # a zip file
LEAST_BYTES = 250_000  # of a file; what is smaller is mostly the sound of a click or a step


def main() -> None:
    """Fetch, unpack, divide."""
    folders = [argument for argument in sys.argv[1:] if argument != "--small"]
    if len(folders) != 1 or folders[0].startswith("-"):
        sys.exit(__doc__)
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        sys.exit("this needs apt-get and dpkg, as on Debian and Ubuntu")
    missing = []
    for package in SMALL if "--small" in sys.argv else SMALL + MORE:
        try:
            files = fetch(package, Path(folders[0]))
        except subprocess.CalledProcessError as error:
            missing.append(package)
            sys.stderr.write(f"{package}: {error}\n")
        else:
            sys.stdout.write(f"{package}: {files} files\n")
    if missing:
        sys.exit(f"not fetched, for the reasons above: {', '.join(missing)}")


def fetch(package: str, folder: Path) -> int:
    """One package; returns the number of its files."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        subprocess.run(["apt-get", "download", "-qq", package], cwd=scratch, check=True)
        (archive,) = scratch.glob("*.deb")
        subprocess.run(["dpkg", "-x", archive, scratch / "tree"], check=True)
        for packed in sorted((scratch / "tree").rglob(f"*{ARCHIVE}")):
            unpack(packed, scratch / "tree" / "unpacked" / packed.name)
        files = sorted(p for p in (scratch / "tree").rglob("*") if is_sound(p))
        for number, path in enumerate(files, start=1):
            place = folder / part_of(package, number, path) / package
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place / path.name)
        licence = scratch / "tree" / "usr" / "share" / "doc" / package / "copyright"
        for place in folder.glob(f"*/{package}"):
            shutil.copyfile(licence, place / "copyright.txt")
    return len(files)


def is_sound(path: Path) -> bool:
    """A file of a known format, not a link to one."""
    return path.suffix in ENDINGS and path.is_file() and not path.is_symlink()


def unpack(packed: Path, folder: Path) -> None:
    """Sound files of an archive, side by side."""
    folder.mkdir(parents=True)
    with zipfile.ZipFile(packed) as archive:
        for name, member in sound_members(archive):
            with archive.open(member) as source, (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target)


def sound_members(archive: zipfile.ZipFile) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """Names without folders, so that none leads out of ours."""
    for member in archive.infolist():
        name = PurePosixPath(member.filename).name
        if name.endswith(ENDINGS):
            yield name, member


def part_of(package: str, number: int, path: Path) -> str:
    """Where the n-th file of a package belongs, counted from 1."""
    if package == DIVIDED and number % 5 == 0:
        return "held-out"
    akin = package == DIVIDED and path.name in LEFT_OUT
    if akin or path.stat().st_size < LEAST_BYTES:
        return "left-out"
    return "held-out" if package in HELD_OUT else "train"


if __name__ == "__main__":
    main()
