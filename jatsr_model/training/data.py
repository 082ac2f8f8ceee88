"""What a training reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from jatsr_data import Batch, LatentDataset, LatentLoader, ReadOptions
from jatsr_model.training.settings import Recipe, Runtime
from jatsr_model.training.world import World
from shards.errors import ConfigError
from shards.manifest import read_manifest


class Batches(Protocol):
    """Batches without end."""

    def __iter__(self) -> Iterator[Batch]:
        """This rank's share of one global batch after the other."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where they stand; a small JSON document."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue there."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Continue with the beginning of an epoch."""
        ...

    def close(self) -> None:
        """End the processes that read."""
        ...


@dataclass(frozen=True)
class Epochs:
    """Epoch after epoch of a loader."""

    loader: LatentLoader

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield from self.loader

    def state_dict(self) -> dict[str, Any]:
        """Of the loader."""
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Of the loader."""
        self.loader.load_state_dict(state)

    def set_epoch(self, epoch: int) -> None:
        """Of the loader."""
        self.loader.set_epoch(epoch)

    def close(self) -> None:
        """The loader's workers."""
        self.loader.close()


@dataclass(frozen=True)
class Repeated:
    """The same crops for ever: a check of everything that learns."""

    batch: Batch

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.batch

    def state_dict(self) -> dict[str, Any]:
        """Nothing changes."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to do."""

    def set_epoch(self, epoch: int) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to end."""


def training_batches(url: str, recipe: Recipe, runtime: Runtime, world: World) -> Batches:
    """What is trained on.

    Raises:
        ConfigError: sizes that do not fit; names the flag.
        FormatError: there is no readable dataset.
    """
    if recipe.batch_size % world.size:
        raise ConfigError(
            f"--batch-size {recipe.batch_size} is not a multiple of the {world.size} processes",
            hint="it counts the crops of all processes together",
        )
    _expect_lanes(runtime.workers, world.size)
    if recipe.overfit:
        return Repeated(_repeated(url, recipe, world))
    dataset = LatentDataset(url, "train", recipe.crop_frames, recipe.lr_variants, recipe.seed)
    crops = len(dataset)
    if crops < recipe.batch_size:
        raise ConfigError(
            f"--batch-size {recipe.batch_size}: an epoch has {crops} crops of "
            f"{recipe.crop_frames} frames",
            hint=f"use --batch-size {max(crops * 9 // 10, 1)} or less, shorter --crop-frames, or "
            "a larger dataset",
        )
    pin = world.device.type == "cuda"
    return Epochs(
        LatentLoader(
            dataset,
            recipe.batch_size,
            world.rank,
            world.size,
            runtime.workers,
            pin_memory=pin,
        )
    )


def _expect_lanes(workers: int, ranks: int) -> None:
    lanes, readers = ReadOptions().lanes, ranks * max(workers, 1)
    if lanes % readers:
        fitting = [n for n in range(1, lanes + 1) if lanes % (n * ranks) == 0]
        raise ConfigError(
            f"--workers {workers}: {readers} readers of all {ranks} processes cannot share the "
            f"{lanes} lanes of a dataset evenly",
            hint=f"use --workers {' or '.join(map(str, fitting))}"
            if fitting
            else f"start a number of processes that divides {lanes}",
        )


def validation_batches(
    url: str, recipe: Recipe, crops: int, micro: int, world: World
) -> tuple[Batch, ...]:
    """Crops that are judged, the same in every training with this length of crops.

    They are spread over the whole split and kept in memory. Empty if the dataset has no ``val``.

    Args:
        url: of the dataset.
        recipe: of the training.
        crops: how many, all ranks together; a rank gets a few more where they do not divide.
        micro: how many of them a rank has in memory of the device at once.
        world: of ranks.

    Raises:
        FormatError: there is no readable dataset.
    """
    if recipe.overfit:
        return (_repeated(url, recipe, world),)
    if not read_manifest(url).splits.get("val"):
        return ()
    dataset = LatentDataset(url, "val", recipe.crop_frames, options=ReadOptions(shuffle=False))
    share = -(-min(crops, len(dataset)) // world.size)
    batch = min(share, micro)
    loader = LatentLoader(dataset, batch * world.size, world.rank, world.size, last="pad")
    with closing(loader):
        return tuple(islice(loader, -(-share // batch)))


def _repeated(url: str, recipe: Recipe, world: World) -> Batch:
    """The first crops, again and again until the share of this rank is full."""
    options = ReadOptions(shuffle=False)
    dataset = LatentDataset(url, "train", recipe.crop_frames, "0", options=options)
    loader = LatentLoader(dataset, recipe.overfit, last="pad")
    with closing(loader):
        crops = next(iter(loader))
    if not crops.frames.all():
        raise ConfigError(
            f"--overfit {recipe.overfit}: the dataset has {len(dataset)} crops of "
            f"{recipe.crop_frames} frames",
            hint="use fewer, or shorter --crop-frames",
        )
    places = range(world.rank, recipe.batch_size, world.size)
    return crops.rows([place % recipe.overfit for place in places])
