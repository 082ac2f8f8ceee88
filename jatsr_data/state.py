"""Where a loader stands, as a small JSON document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shards.errors import ConfigError, FormatError

VERSION = 1


@dataclass(frozen=True)
class LoaderState:
    """Seed, epoch and a global cursor: the world has no part in it.

    Attributes:
        seed: of the order.
        epoch: from 0.
        cursor: crops of the epoch that all ranks together have been given.
        dataset: hash of the shards that are read.
        reading: everything else that the order depends on.
    """

    seed: int
    epoch: int
    cursor: int
    dataset: str
    reading: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """A document of less than a kilobyte."""
        return {"version": VERSION, **asdict(self)}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> LoaderState:
        """Check a document.

        Raises:
            FormatError: it is no state of a loader, or of another version.
        """
        version = document.get("version") if isinstance(document, Mapping) else None
        if type(version) is not int or version != VERSION:
            raise FormatError(
                f"expected a loader state of version {VERSION}, found {version!r}",
                hint="pass what LatentLoader.state_dict() returned",
            )
        try:
            state = LoaderState(**{k: v for k, v in document.items() if k != "version"})
        except TypeError as error:
            raise FormatError(f"expected a loader state, found other fields: {error}") from None
        for name in ("seed", "epoch", "cursor"):
            value = getattr(state, name)
            if type(value) is not int or (name != "seed" and not 0 <= value < 1 << 53):
                raise FormatError(f"loader state: expected a whole number {name}, found {value!r}")
        if not isinstance(state.reading, Mapping):
            raise FormatError(f"loader state: expected a mapping, found {state.reading!r}")
        return state

    def expect_same_order(self, here: LoaderState) -> None:
        """Raise unless it continues the order that a loader has.

        Raises:
            ConfigError: another dataset, seed or way of reading; names what differs.
        """
        differing = []
        if self.seed != here.seed:
            differing.append(f"seed (then {self.seed}, now {here.seed})")
        for name in sorted({*self.reading, *here.reading}):
            then, now = self.reading.get(name), here.reading.get(name)
            if then != now:
                differing.append(f"{name} (then {then!r}, now {now!r})")
        if self.dataset != here.dataset:
            differing.append("the shards of the dataset (it was extended or rebuilt)")
        if differing:
            raise ConfigError(
                "the state belongs to another order of crops; different are: "
                + ", ".join(differing),
                hint="read as then, or start a new epoch: loader.set_epoch("
                f"{self.epoch + 1}) instead of load_state_dict",
            )
