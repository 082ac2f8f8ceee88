"""Which excerpts a reader uses, decided from the table of samples alone."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from shards.errors import ConfigError


@dataclass(frozen=True)
class Filter:
    """Conditions that an excerpt has to meet, all of them; None and empty ones are none.

    Attributes:
        min_rolloff: smallest roll-off of the high-res signal, as a fraction of the Nyquist
            frequency: leaves out what is band-limited already.
        max_rolloff: largest.
        min_seconds: shortest excerpt.
        max_seconds: longest excerpt.
        captioned: whether it has a caption.
        caption_sources: where its caption came from: ``sidecar``, ``tags``, ``measured``, ...
        licences: one of these texts is in its tag ``license``, or, without one, ``copyright``;
            in any case of letters.
        tags: tag -> values, one of which it has; in any case of letters.
    """

    min_rolloff: float | None = None
    max_rolloff: float | None = None
    min_seconds: float | None = None
    max_seconds: float | None = None
    captioned: bool | None = None
    caption_sources: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("min_rolloff", "max_rolloff", "min_seconds", "max_seconds"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, float(value))
        # A text is a sequence of texts, too: ("jazz") would mean its letters.
        lists = {"caption_sources": self.caption_sources, "licences": self.licences, **self.tags}
        for name, values in lists.items():
            if not isinstance(values, (tuple, list)):
                raise ConfigError(f"Filter: expected several texts for {name!r}, found {values!r}")
        for low, high in (("min_rolloff", "max_rolloff"), ("min_seconds", "max_seconds")):
            first, last = getattr(self, low), getattr(self, high)
            if first is not None and last is not None and first > last:
                raise ConfigError(f"Filter: {low}={first} is above {high}={last}")
        for name in ("min_rolloff", "max_rolloff"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise ConfigError(
                    f"Filter: {name}={value} is not in [0, 1]",
                    hint="it is a fraction of the Nyquist frequency: 0.5 is 11 kHz at 44.1 kHz",
                )

    def apply(self, table: pa.Table) -> tuple[pa.Array, dict[str, int]]:
        """Which rows meet all conditions.

        Args:
            table: rows of ``samples.parquet``.

        Returns:
            a boolean array, and how many rows each condition left out of those that were left.
        """
        kept = pa.array([True] * len(table), pa.bool_())
        dropped = {}
        for name, met in self._conditions(table):
            now = pc.and_(kept, pc.fill_null(met, False))
            dropped[name] = pc.sum(kept).as_py() - pc.sum(now).as_py() if len(table) else 0
            kept = now
        return kept, dropped

    def _conditions(self, table: pa.Table) -> Iterator[tuple[str, pa.Array]]:
        for name, test, column in (
            ("min_rolloff", pc.greater_equal, _rolloff),
            ("max_rolloff", pc.less_equal, _rolloff),
            ("min_seconds", pc.greater_equal, _seconds),
            ("max_seconds", pc.less_equal, _seconds),
        ):
            if (limit := getattr(self, name)) is not None:
                yield f"{name}={limit}", test(column(table), limit)
        if self.captioned is not None:
            caption = pc.fill_null(table["caption"].combine_chunks(), "")
            there = pc.greater(pc.utf8_length(caption), 0)
            yield f"captioned={self.captioned}", there if self.captioned else pc.invert(there)
        if self.caption_sources:
            source = table["caption_source"].combine_chunks()
            allowed = pa.array(self.caption_sources, pa.string())
            yield f"caption_sources={self.caption_sources}", pc.is_in(source, value_set=allowed)
        if self.licences:
            texts = pc.coalesce(tag_of(table, "license"), tag_of(table, "copyright"))
            met = [pc.match_substring(pc.utf8_lower(texts), text.lower()) for text in self.licences]
            yield f"licences={self.licences}", functools.reduce(pc.or_, met)
        for name, values in self.tags.items():
            lowered = pa.array([value.lower() for value in values], pa.string())
            found = pc.is_in(pc.utf8_lower(tag_of(table, name)), value_set=lowered)
            yield f"tags[{name}]={tuple(values)}", found

    @property
    def columns(self) -> set[str]:
        """The columns of the table that the conditions look at."""
        used = {
            "rolloff": (self.min_rolloff, self.max_rolloff),
            "seconds": (self.min_seconds, self.max_seconds),
            "caption": (self.captioned,),
            "caption_source": (self.caption_sources or None,),
            "tags": (self.licences or None, self.tags or None),
        }
        return {name for name, values in used.items() if any(v is not None for v in values)}


def tag_of(table: pa.Table, name: str) -> pa.Array:
    """The value of a tag in each row, null where there is none."""
    return pc.map_lookup(table["tags"].combine_chunks(), pa.scalar(name), "first")


def _rolloff(table: pa.Table) -> pa.Array:
    """Of the high-res signal."""
    return pc.list_element(table["rolloff"].combine_chunks(), 0)


def _seconds(table: pa.Table) -> pa.Array:
    return table["seconds"].combine_chunks()
