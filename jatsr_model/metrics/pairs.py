"""Which estimate, and which low-res input, belongs to which reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jatsr_model.metrics.evaluation import Pending
from jatsr_model.metrics.music import audio_files
from jatsr_model.metrics.sounds import INPUT, Case, read_sound
from shards.errors import ConfigError
from shards.files import printable

ESTIMATE = "estimate"
_FLAGS = {"reference": "--reference", ESTIMATE: "--estimate", INPUT: "--low"}


@dataclass(frozen=True)
class Missing:
    """A file without its partner.

    Attributes:
        flag: the folder that lacks it.
        name: what is lacking, a path without its suffix.
        because_of: the file that is there.
    """

    flag: str
    name: str
    because_of: str

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.flag}: nothing there for {self.because_of}"


@dataclass(frozen=True)
class Pairs:
    """What is compared.

    Attributes:
        cases: in the order of their names.
        missing: files that are left over.
    """

    cases: Sequence[Pending]
    missing: Sequence[Missing]


def find_pairs(reference: Path, estimate: Path, low: Path | None) -> Pairs:
    """Pair files, which belong together as they are, or folders, by path and stem.

    Raises:
        ConfigError: one is not there, files and folders are mixed, or a folder has no audio.
    """
    given = {"reference": reference, ESTIMATE: estimate} | ({} if low is None else {INPUT: low})
    for role, path in given.items():
        if not path.exists():
            raise ConfigError(f"{_FLAGS[role]} {path}: no such file or folder")
    if len({path.is_dir() for path in given.values()}) > 1:
        kinds = ", ".join(
            f"{_FLAGS[role]} is a {'folder' if path.is_dir() else 'file'}"
            for role, path in given.items()
        )
        raise ConfigError(f"expected all files or all folders, found: {kinds}")
    if not reference.is_dir():
        return Pairs([_pending(reference.stem, {k: [p] for k, p in given.items()})], [])
    return _matched({role: _listed(path, _FLAGS[role]) for role, path in given.items()})


def _listed(folder: Path, flag: str) -> dict[str, list[Path]]:
    """Audio files by their path inside the folder without the suffix."""
    found: dict[str, list[Path]] = {}
    for path in audio_files(folder):
        found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    if not found:
        raise ConfigError(f"{flag} {folder}: expected audio files, found none")
    return found


def _matched(listed: Mapping[str, Mapping[str, list[Path]]]) -> Pairs:
    cases, missing = [], []
    for name in sorted({key for files in listed.values() for key in files}):
        roles = {role: files[name] for role, files in listed.items() if name in files}
        there = next(iter(roles.values()))[0]
        missing += [
            Missing(_FLAGS[role], printable(name), printable(str(there)))
            for role in listed
            if role not in roles
        ]
        if {"reference", ESTIMATE} <= roles.keys():
            cases.append(_pending(name, roles))
    return Pairs(cases, missing)


def _pending(name: str, roles: Mapping[str, Sequence[Path]]) -> Pending:
    def load() -> Case:
        sounds = {role: read_sound(_single(paths, _FLAGS[role])) for role, paths in roles.items()}
        return Case(printable(name), sounds.pop("reference"), sounds)

    return Pending(printable(name), load)


def _single(paths: Sequence[Path], flag: str) -> Path:
    if len(paths) > 1:
        raise ConfigError(
            f"{flag}: expected one file of this name, found "
            + ", ".join(printable(path.name) for path in paths),
            hint="keep one of them",
        )
    return paths[0]


def missing_lines(missing: Sequence[Missing], at_most: int = 20) -> Iterator[str]:
    """What is missing, for people."""
    for item in missing[:at_most]:
        yield item.text
    if len(missing) > at_most:
        yield f"... and {len(missing) - at_most} more (--json lists all)"
