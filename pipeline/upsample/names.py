"""What outputs are called, now and in every later run.

``x/a.wav`` becomes ``x/a.flac``. Where two inputs want one name, and where the name belongs to
another input that is still there, outputs keep both endings: ``x/a.wav.flac``. An output that is
there keeps its name, whatever comes to lie beside its input or goes away.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from pipeline.upsample.ledger import Ledger
from pipeline.upsample.sources import Found
from shards.errors import ConfigError
from shards.files import printable
from shards.storage import LocalStore, Store, is_url, open_store


@dataclass(frozen=True, kw_only=True)
class Planned(Found):
    """An input and its output.

    Attributes:
        target: the output's name inside OUT, with slashes; of what is no audio, its place.
    """

    target: str

    @property
    def name(self) -> str:
        """The target as the ledger has it: valid text."""
        return printable(self.target)


def name_outputs(
    found: Sequence[Found], out: Store, ending: str, ledger: Ledger | None = None
) -> list[Planned]:
    """Every input with the name of its output, ordered by these names.

    Args:
        found: the inputs.
        out: the folder of the outputs.
        ending: of the outputs, such as ``.flac``.
        ledger: knows whose the names are that earlier runs have given.

    Raises:
        ConfigError: an output would replace an input or another output.
    """
    audio = [item for item in found if not item.skipped]
    places = {printable(item.place) for item in audio}
    wanted = Counter(_short(item, ending) for item in audio)

    def target_of(item: Found) -> str:
        short, long = _short(item, ending), item.place + ending
        owner = None if ledger is None else ledger.owner(printable(short))
        if owner == printable(item.place):
            return short
        if ledger is not None and ledger.owner(printable(long)) == printable(item.place):
            return long
        return long if wanted[short] > 1 or owner in places else short

    planned = [
        Planned(**asdict(item), target=item.place if item.skipped else target_of(item))
        for item in found
    ]
    _expect_apart(planned, out)
    return sorted(planned, key=lambda item: os.fsencode(item.name))


def name_one(item: Found, out: Store, name: str) -> Planned:
    """The single input whose output was named.

    Raises:
        ConfigError: it is the output.
    """
    planned = Planned(**asdict(item), target=name)
    _expect_apart([planned], out)
    return planned


def _short(item: Found, ending: str) -> str:
    return PurePosixPath(item.place).with_suffix(ending).as_posix()


def _expect_apart(planned: Sequence[Planned], out: Store) -> None:
    """No output replaces an input or another output."""
    sources = {_identity(item.source): item for item in planned}
    targets: dict[str, Planned] = {}
    for item in planned:
        if item.skipped:
            continue
        target = _address(out, item.target)
        if target in sources:
            raise ConfigError(
                f"OUT: {out.join(item.target)} would replace the input {sources[target].shown}",
                hint="choose another folder for OUT, or another --format",
            )
        other = targets.setdefault(target, item)
        if other is not item:
            raise ConfigError(
                f"IN: {other.shown} and {item.shown} would both become {out.join(item.target)}",
                hint="upsample them one after the other, into two folders",
            )


def _identity(source: str) -> str:
    """The one address of a file, however it was named."""
    if not is_url(source):
        return str(Path(source).resolve())
    return _address(open_store(source), "")


def _address(store: Store, name: str) -> str:
    if isinstance(store, LocalStore):
        return str((store.path / name).resolve())
    return store.join(name)
