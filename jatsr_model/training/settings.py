"""What a training is told: what decides its result, and what does not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

from shards.errors import ConfigError, FormatError

Schedule = Literal["cosine", "constant", "inverse"]
Precision = Literal["fp32", "bf16"]
Strategy = Literal["ddp", "fsdp"]

_CHOICES = {"schedule": Schedule, "precision": Precision, "strategy": Strategy}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides what is learned, beside the dataset. A resumed training has the same.

    Args:
        model: preset.
        steps: of the optimizer.
        batch_size: crops of a step, all ranks together.
        crop_frames: latent frames of a crop.
        lr_variants: ``random``, ``all`` or the number of a low-res variant.
        lr: highest learning rate.
        schedule: how it falls.
        warmup: steps until it is reached.
        lr_floor: share of it at the end of ``cosine``.
        betas: of AdamW.
        weight_decay: of AdamW, on matrices.
        clip: largest norm of the gradient.
        ema: decay of the average of weights that is validated and saved for use.
        losses: weights by name.
        times: law of t.
        condition_dropout: probability with which a condition of a crop is left out, but for the
            low-res latents of an envelope.
        condition_noise: standard deviation of noise on the normalised low-res latents.
        equalise: strength of a random equaliser, see ``Augment``; only for ``mdct``.
        cut: share of crops that are cut off at a random frequency; as equalise.
        end: share of crops that end early by themselves; as equalise.
        precision: ``bf16`` runs the network under autocast.
        text_encoder: identity of the text encoder; empty without text.
        overfit: train on so many crops only; 0 for the dataset.
        seed: of weights, order and chance.
        start: identity of the model that weights were taken from; empty for new ones.
    """

    model: str
    steps: int = 100_000
    batch_size: int = 32
    crop_frames: int = 512
    lr_variants: str = "random"
    lr: float = 3e-4
    schedule: Schedule = "cosine"
    warmup: int = 1000
    lr_floor: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.9999
    losses: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({"mse": 1.0}))
    times: str = "logit-normal"
    condition_dropout: float = 0.1
    condition_noise: float = 0.0
    equalise: float = 0.0
    cut: float = 0.0
    end: float = 0.0
    precision: Precision = "fp32"
    text_encoder: str = ""
    overfit: int = 0
    seed: int = 0
    start: str = ""

    def __post_init__(self) -> None:
        """Check values that do not need the dataset.

        Raises:
            ConfigError: one that cannot work; names the flag.
        """
        _expect_choices(self)
        _expect_at_least(self, 1, "steps", "batch_size", "crop_frames")
        _expect_at_least(self, 0, "warmup", "overfit")
        _expect_between(self, 0, 1, "lr_floor", "ema", "condition_dropout", "cut", "end")
        for name in ("lr", "clip"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ConfigError(f"{flag(name)} {getattr(self, name)}: expected a number above 0")
        for beta in self.betas:
            if not 0 <= beta < 1:
                raise ConfigError(f"--betas {beta}: expected numbers from 0 to below 1")
        for name in ("weight_decay", "condition_noise", "equalise"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ConfigError(f"{flag(name)} {getattr(self, name)}: expected 0 or more")

    def to_json(self) -> dict[str, Any]:
        """For ``run.json`` and checkpoints."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**plain, "losses": dict(self.losses), "betas": list(self.betas)}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Recipe:
        """Read it again.

        Raises:
            FormatError: another version of jatsr wrote it.
        """
        try:
            values = {**document, "betas": tuple(document["betas"])}
            return Recipe(**values)
        except (KeyError, TypeError) as error:
            raise FormatError(
                f"expected the recipe of a training, found other fields ({error})",
                hint="continue with the version of jatsr that began it",
            ) from error


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How a training runs; another machine may do it in another way.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``; empty for the best there is.
        workers: processes that read.
        micro_batch: crops of a rank that are in memory at once; 0 for all of its share.
        recompute: compute activations again instead of keeping them.
        compile: compile the blocks of the network.
        strategy: how ranks share the work: ``ddp`` keeps all of the state in each, ``fsdp`` its
            share of it.
        log_every: steps.
        val_every: steps; 0 for never.
        val_crops: how many.
        sample_every: steps between validations that also sample audio; 0 for never.
        samples: crops that are sampled.
        sample_steps: of the solver.
        save_every: steps.
        keep: newest checkpoints that are kept.
        keep_hours: one checkpoint is kept for good for so many hours of training; 0 for none.
        max_bad_steps: non-finite steps in a row that end the training.
        log_json: also write ``log.jsonl``.
    """

    device: str = ""
    workers: int = 2
    micro_batch: int = 0
    recompute: bool = False
    compile: bool = False
    strategy: Strategy = "ddp"
    log_every: int = 10
    val_every: int = 1000
    val_crops: int = 64
    sample_every: int = 5000
    samples: int = 4
    sample_steps: int = 16
    save_every: int = 1000
    keep: int = 3
    keep_hours: float = 0.0
    max_bad_steps: int = 10
    log_json: bool = False

    def __post_init__(self) -> None:
        """Check values.

        Raises:
            ConfigError: one that cannot work; names the flag.
        """
        _expect_choices(self)
        _expect_at_least(self, 1, "log_every", "save_every", "keep", "max_bad_steps",
                         "val_crops", "samples", "sample_steps")  # fmt: skip
        _expect_at_least(self, 0, "workers", "micro_batch", "val_every", "sample_every")
        if not self.keep_hours >= 0:
            raise ConfigError(f"--keep-hours {self.keep_hours}: expected 0 or more")

    def to_json(self) -> dict[str, Any]:
        """For ``run.json``."""
        return asdict(self)


def flag(name: str) -> str:
    """The option of the command line that sets a field."""
    return "--" + {"losses": "loss"}.get(name, name).replace("_", "-")


def _expect_choices(settings: Recipe | Runtime) -> None:
    for name, kind in _CHOICES.items():
        value = getattr(settings, name, None)
        if value is not None and value not in get_args(kind):
            choices = ", ".join(get_args(kind))
            raise ConfigError(f"{flag(name)} {value}: expected one of {choices}")


def _expect_at_least(settings: Recipe | Runtime, least: int, *names: str) -> None:
    for name in names:
        if getattr(settings, name) < least:
            raise ConfigError(f"{flag(name)} {getattr(settings, name)}: expected at least {least}")


def _expect_between(settings: Recipe, low: float, high: float, *names: str) -> None:
    for name in names:
        if not low <= getattr(settings, name) <= high:
            raise ConfigError(
                f"{flag(name)} {getattr(settings, name)}: expected a number from {low} to {high}"
            )
