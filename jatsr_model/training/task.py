"""What is to be trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jatsr_model.dit import preset
from jatsr_model.training.checkpoints import Checkpoint
from jatsr_model.training.feed import Captions
from jatsr_model.training.memory import Load
from jatsr_model.training.settings import Recipe, Runtime
from shards.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be trained, where.

    Args:
        dataset: address.
        folder: of the run.
        recipe: what decides the result.
        runtime: how it runs.
        places: of files: ``codec_weights``; ``start``, a model folder whose weights are the first;
            ``text_encoder``.
        channels: of the dataset.
        checkpoint: to continue; None to begin.
        text: embeds captions; None without.
        accept: go on with a dataset that has changed, from a new epoch.
    """

    dataset: str
    folder: Path
    recipe: Recipe
    runtime: Runtime
    places: Mapping[str, str]
    channels: int
    checkpoint: Checkpoint | None = None
    text: Captions | None = None
    accept: bool = False

    def __post_init__(self) -> None:
        """Check what needs both recipe and runtime.

        Raises:
            ConfigError: values that do not fit together; names the flags.
        """
        if self.recipe.overfit and preset(self.recipe.model).prediction == "envelope":
            raise ConfigError(
                f"--overfit: {self.recipe.model} tells envelopes, of which no crop can be sampled "
                "back",
                hint="watch Loss/Levels fall instead, with a dataset of few files",
            )
        if self.recipe.overfit and not self.runtime.sample_every:
            raise ConfigError(
                "--overfit judges by what is sampled at the end", hint="leave out --sample-every 0"
            )

    def place(self, name: str) -> Path | None:
        """One of the places."""
        return Path(self.places[name]) if name in self.places else None

    def micro(self, ranks: int) -> int:
        """Crops that a rank has in memory at once."""
        return self.runtime.micro_batch or max(self.recipe.batch_size // ranks, 1)

    def load(self, ranks: int) -> Load:
        """What a rank has in memory at once, for advice."""
        return Load(
            preset=preset(self.recipe.model),
            batch=self.micro(ranks),
            frames=self.recipe.crop_frames,
            recompute=self.runtime.recompute,
            shards=ranks if self.runtime.strategy == "fsdp" else 1,
            channels=self.channels,
        )
