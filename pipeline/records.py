"""What travels between stages: one track's signal, then a stream of events of many tracks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.plan import TrackTask
from pipeline.stages.describe import ExcerptDescription
from shards.errors import JatsrError
from shards.files import printable

Block = NDArray[np.float32]


@dataclass(frozen=True)
class Signal:
    """A track's audio as blocks that can be read more than once.

    ``blocks()`` yields float32 ``[channels, n]`` at ``rate`` before the degrade stage and
    ``[streams, channels, n]`` after it.
    """

    task: TrackTask
    rate: int
    channels: int
    blocks: Callable[[], Iterator[Block]]
    samples: int = 0  # known once the condition stage has measured the track
    facts: Mapping[str, Any] = field(default_factory=dict)  # what every sample's metadata holds


@dataclass(frozen=True)
class Begin:
    """A track starts; its facts are complete."""

    track: str
    samples: int
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Pcm:
    """Aligned audio of all streams, float32 ``[streams, channels, n]``."""

    track: str
    block: Block


@dataclass(frozen=True)
class Described:
    """An excerpt's description."""

    track: str
    description: ExcerptDescription


@dataclass(frozen=True)
class End:
    """All audio of a track has passed."""

    track: str


@dataclass(frozen=True)
class Dropped:
    """A track ends without a part: it failed or is skipped."""

    task: TrackTask
    error: JatsrError


@dataclass(frozen=True)
class Stored:
    """Encoded frames ``[rows, frames]`` of one stream and channel, in order."""

    track: str
    lane: int  # stream * channels + channel
    frames: NDArray[Any]


Event = Begin | Pcm | Described | End | Dropped
EncodedEvent = Begin | Stored | Described | End | Dropped


@dataclass(frozen=True, slots=True)
class TrackResult:
    """How a track ended, for the ledger and the report."""

    track: str
    status: Literal["ok", "skipped", "failed"]
    seconds: float = 0.0
    excerpts: int = 0
    stage: str = ""
    reason: str = ""
    hint: str = ""

    @property
    def key(self) -> str:
        """For engines."""
        return self.track

    def ledger_values(self) -> dict[str, object]:
        """The ledger columns this result decides; empty text is null."""
        return {
            "status": self.status,
            "seconds": self.seconds or None,
            "excerpts": self.excerpts or None,
            "stage": self.stage or None,
            "reason": printable(self.reason) or None,
            "hint": printable(self.hint) or None,
        }
