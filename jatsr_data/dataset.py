"""A split of a dataset as crops, in an order for every epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jatsr_data.crops import CropRule
from jatsr_data.filters import Filter
from jatsr_data.index import read_index
from jatsr_data.mixture import Mixture
from jatsr_data.options import BLOCK_BYTES, ReadOptions, whole
from jatsr_data.order import Deal, Epoch
from shards.errors import ConfigError
from shards.files import sha256_json
from shards.layout import stream_names
from shards.manifest import Manifest, read_manifest
from shards.silence import read_silence
from shards.storage import Store, StoreLike, open_store

ORDER_VERSION = 1  # changes when equal options would give another order


class LatentDataset:
    """What ``jatsr build`` has written, as crops of one length.

    Only the manifest and the table of samples are read at first. The object can be pickled and
    used after a fork; it never changes, also when the dataset is extended meanwhile.

    Args:
        url: path, ``s3://``, ``gs://`` or ``https://`` address of a dataset.
        split: ``train`` or ``val``.
        crop_frames: length of a crop in latent frames; multiples of 16 give the best roll-offs,
            and up to 16 leave no other phase than 0.
        lr_variants: ``"random"`` draws a low-res variant for each crop, ``"all"`` gives each crop
            with every variant, a number always takes that one.
        seed: of the order.
        select: which excerpts are used; None for all.
        mixture: weights of groups; None for equal ones.
        options: how it is read.

    Raises:
        FormatError: there is no readable dataset.
        ConfigError: a value that cannot work, an empty split, or nothing that meets the filter.
    """

    def __init__(
        self,
        url: StoreLike,
        split: str = "train",
        crop_frames: int = 512,
        lr_variants: str | int = "random",
        seed: int = 0,
        *,
        select: Filter | None = None,
        mixture: Mixture | None = None,
        options: ReadOptions | None = None,
    ) -> None:
        _expect_types(select, mixture, options)
        self.store: Store = open_store(url)
        self.manifest: Manifest = read_manifest(self.store)
        self.split = split
        self.crop_frames = whole("crop_frames", crop_frames, 1)
        self.seed = whole("seed", seed, -(1 << 63))
        self.select, self.mixture = select or Filter(), mixture
        self.options = options or ReadOptions()
        self.lr_variants = _variant(lr_variants, self.manifest.variants)
        self.index = read_index(self.store, self.manifest, split, self.select, mixture)
        self._epochs: dict[int, Epoch] = {}  # those that were asked for last
        if np.any(self.index.frames < self.crop_frames):
            self.silence  # noqa: B018 - read now, and not in threads or children

    def __len__(self) -> int:
        """Crops of epoch 0; other epochs have a few more or less, see ``epoch``."""
        return len(self.epoch(0))

    def __repr__(self) -> str:
        return (
            f"LatentDataset({self.store.url!r}, split={self.split!r}, excerpts={len(self.index)}"
            f" of {self.index.total}, crop_frames={self.crop_frames})"
        )

    @cached_property
    def silence(self) -> NDArray[Any]:
        """A frame of what the codec makes of silence, ``[rows, 1]``."""
        return read_silence(self.store, self.manifest)

    @property
    def streams(self) -> tuple[str, ...]:
        """``hr``, ``lr0``, ..."""
        return stream_names(self.manifest.variants)

    @property
    def channels(self) -> int:
        """1 or 2."""
        return 2 if self.manifest.config["channels"] == "stereo" else 1

    @cached_property
    def deal(self) -> Deal:
        """Lanes and blocks, the same in all epochs."""
        index = self.index
        weight = self._rule.expected(index.frames) * index.repeats.expected
        return Deal.of(
            index.shard, index.offset, index.bytes, weight, self.options.lanes, BLOCK_BYTES
        )

    def epoch(self, number: int) -> Epoch:
        """The order of an epoch, a pure function of the seed and its number."""
        found = self._epochs.get(number)
        if found is None:
            index, window = self.index, self.options.window
            found = Epoch(
                self.deal,
                self._rule,
                index.ids,
                index.frames,
                index.repeats,
                self.seed,
                number,
                window,
            )
            self._epochs = {**dict([*self._epochs.items()][-2:]), number: found}
        return found

    @property
    def _rule(self) -> CropRule:
        shuffle = self.options.shuffle
        return CropRule(self.crop_frames, self.manifest.variants, self.lr_variants, shuffle)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_epochs": {}}

    @cached_property
    def content(self) -> str:
        """Hash of the shards that are read."""
        hashes = [entry.sha256 for entry in self.index.shards]
        return _short_hash([self.manifest.fingerprint, hashes])

    @property
    def reading(self) -> Mapping[str, Any]:
        """What the order depends on beside seed and content; small and ready for JSON."""
        return {
            "order": ORDER_VERSION,
            "split": self.split,
            "crop_frames": self.crop_frames,
            "lr_variants": self.lr_variants,
            "select": _short_hash(asdict(self.select)),
            "mixture": _short_hash(asdict(self.mixture) if self.mixture else None),
            "shuffle": self.options.shuffle,
            "lanes": self.options.lanes,
            "window": self.options.window,
        }


def _variant(wanted: str | int, variants: int) -> str | int:
    text = str(wanted)
    if text in ("random", "all"):
        return text
    number = text.removeprefix("lr")
    if not number.isdecimal() or int(number) >= variants:
        names = ", ".join(f"{k} (lr{k})" for k in range(variants))
        raise ConfigError(
            f"lr_variants={wanted!r}: the dataset has {variants} low-res variants",
            hint=f"use 'random', 'all' or one of {names}",
        )
    return int(number)


def _short_hash(value: Any) -> str:
    return sha256_json(value)[:16]


def _expect_types(
    select: Filter | None, mixture: Mixture | None, options: ReadOptions | None
) -> None:
    given = {"select": (select, Filter), "mixture": (mixture, Mixture),
             "options": (options, ReadOptions)}  # fmt: skip
    for name, (value, kind) in given.items():
        if value is not None and not isinstance(value, kind):
            raise ConfigError(f"{name}={value!r}: expected a {kind.__name__} or None")
