"""Network, codec, objective and validation of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from jatsr_data import Batch, Normaliser
from jatsr_data.draws import draws
from jatsr_model.dit import DiT, DiTConfig, Preset, preset
from jatsr_model.flow import Objective, time_law
from jatsr_model.latents import LatentDecoder, codec_on
from jatsr_model.losses import AudioConsistency, losses_for
from jatsr_model.model_folder import Card, load_network, read_card
from jatsr_model.training.augment import CHANGES, Augment
from jatsr_model.training.data import validation_batches
from jatsr_model.training.feed import Feed
from jatsr_model.training.rehearsal import Rehearsal
from jatsr_model.training.settings import Recipe
from jatsr_model.training.spaces import reading_space
from jatsr_model.training.task import Task
from jatsr_model.training.validation import Validation
from jatsr_model.training.world import World
from shards.errors import ConfigError
from shards.files import sha256_json
from shards.manifest import Manifest, read_manifest


class Parts:
    """Network, codec and what follows from them.

    Args:
        task: what is to be trained.
        world: of ranks.

    Raises:
        ConfigError: network, dataset and weights do not fit together.
        ModelError: the model to start from is damaged.
    """

    def __init__(self, task: Task, world: World) -> None:
        self.task, self.world = task, world
        recipe, runtime, device = task.recipe, task.runtime, world.device
        self.manifest = read_manifest(task.dataset)
        self.preset = preset(recipe.model)
        self.codec = codec_on(device, self.manifest, task.place("codec_weights"))
        self.normaliser = self._normaliser()
        self.decoder = LatentDecoder(self.codec, self.normaliser)
        consistency = bool(recipe.losses.get("consistency"))
        self.feed = Feed(
            normaliser=self.normaliser, device=device, text=task.text, consistency=consistency
        )
        self.card = Card(
            model=recipe.model,
            config=self._config(),
            prediction=self.preset.prediction,
            origin={"dataset": self.manifest.fingerprint, "recipe": recipe.to_json()},
            latents=latents_of(self.manifest, self.normaliser, self.preset, recipe),
        )
        self.network = self._new_network().to(device)
        self.network.recompute = runtime.recompute
        if runtime.compile:
            for block in self.network.blocks:
                block.compile()
        self.wrapped = world.wrap(self.network, runtime.strategy, recipe.precision)

    def objective(self, generator: torch.Generator | None) -> Objective:
        """What the network is trained for.

        Args:
            generator: draws the place where consistency listens; None takes the middle.
        """
        recipe = self.task.recipe
        audio = None
        if recipe.losses.get("consistency") and self.preset.space != "mdct":
            audio = AudioConsistency(decode=self.decoder, hop=self.codec.hop, generator=generator)
        return Objective(
            prediction=self.preset.prediction,
            times=time_law(recipe.times),
            losses=losses_for(recipe.losses, self.preset.space, audio),
            condition_dropout=recipe.condition_dropout,
            condition_noise=recipe.condition_noise,
            power=self.preset.config.power,
            cutoff=self.preset.config.cutoff,
        )

    def validation(self, micro: int) -> Validation | None:
        """Frozen crops; None if the dataset has none."""
        task = self.task
        batches = validation_batches(
            task.dataset, task.recipe, task.runtime.val_crops, micro, self.world
        )
        first = self._first()
        if first is None:
            return None
        return Validation(
            batches=batches,
            crops=task.runtime.val_crops,
            first=first,
            feed=self.feed,
            objective=self.objective(None),
            world=self.world,
            precision=task.recipe.precision,
        )

    @property
    def augment(self) -> Augment:
        """Of batches in training."""
        return Augment(**{name: getattr(self.task.recipe, name) for name in CHANGES})

    @property
    def measure(self) -> str:
        """Identity of what ``Val/Loss`` is a mean of."""
        recipe, shards = self.task.recipe, self.manifest.splits.get("val", ())
        crops = [recipe.crop_frames, recipe.overfit, self.task.runtime.val_crops]
        return sha256_json([dict(recipe.losses), crops, [shard.sha256 for shard in shards]])

    def rehearsal(self) -> Rehearsal | None:
        """The first of them, to be sampled; all ranks sample the same."""
        first = self._first()
        if first is None:
            return None
        return Rehearsal(
            batch=first,
            feed=self.feed,
            decoder=self.decoder,
            prediction=self.preset.prediction,
            steps=self.task.runtime.sample_steps,
            precision=self.task.recipe.precision,
        )

    def _first(self) -> Batch | None:
        """The first of the crops that are validated, whatever the number of ranks."""
        task, count = self.task, self.task.runtime.samples
        batches = validation_batches(task.dataset, task.recipe, count, count, World())
        return batches[0].rows(range(min(count, len(batches[0])))) if batches else None

    def _config(self) -> DiTConfig:
        config = self.preset.config
        if self.task.recipe.overfit:  # what keeps networks from learning by heart
            config = replace(config, dropout=0.0, drop_path=0.0)
        return config

    def _new_network(self) -> DiT:
        """With the first weights; a checkpoint replaces them."""
        task, config, start = self.task, self._config(), self.task.place("start")
        if start is None or task.checkpoint is not None:
            torch.manual_seed(int(draws(task.recipe.seed, 0, "weights", np.zeros(1))[0] >> 1))
            return DiT(config)
        network, card = load_network(start)
        if (network.config, card.prediction) != (config, self.preset.prediction):
            raise ConfigError(
                f"--start {start}: it is not a network {task.recipe.model} of this version",
                hint=f"it is {card.model or 'of another shape'}; name that with --model, or train "
                "it anew if it is of another version",
            )
        return network.train()

    def _normaliser(self) -> Normaliser:
        """That of the checkpoint or of the model to start from, since weights were learned in it.

        Otherwise that of the dataset.
        """
        task, space = self.task, reading_space(self.preset, self.manifest)
        known: Mapping[str, Any] = {}
        start = task.place("start")
        if task.checkpoint is not None:
            known = task.checkpoint.card.latents
        elif start is not None:
            known = read_card(start)[0].latents
        if "scales" in known:
            return Normaliser.from_state(known["scales"], self.codec)
        return Normaliser.read(task.dataset, self.codec, space)


def latents_of(
    manifest: Manifest, normaliser: Normaliser, preset: Preset, recipe: Recipe
) -> dict[str, Any]:
    """What the user of a model has to know of its latents: the entry ``latents`` of its card."""
    scales = {
        name: value.tolist() if isinstance(value, torch.Tensor) else value
        for name, value in normaliser.state().items()
    }
    config = manifest.config
    return {
        "space": preset.space,
        "codec": dict(manifest.codec),
        "scales": scales,
        "crop_frames": recipe.crop_frames,
        "low_res": list(config["degrade"]["lr"]),
        "loudness": config.get("loudness"),
        "channels": config["channels"],
        "text_encoder": recipe.text_encoder,
    }
