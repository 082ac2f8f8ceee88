"""What a run was asked for: the options of ``jatsr upsample``, checked and understood."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from jatsr_model.model_folder import find_model
from jatsr_model.upsampling.model import model_digest
from jatsr_model.upsampling.output_format import OutputFormat, output_format
from jatsr_model.upsampling.settings import IDENTITY, Precision, Settings
from pipeline.tally import BREAKER
from pipeline.upsample.engine import EngineOptions
from pipeline.upsample.formats import ending_of, names_a_file
from shards.addresses import is_web
from shards.errors import ConfigError
from shards.storage import LocalStore, Store, open_store

_SETTINGS = ("rate", "steps", "solver", "grid", "guidance", "text_guidance", "target_hz", "prompt",
             "seed", "window_frames")  # fmt: skip
_ENGINE = ("engine", "workers", "device", "ray_address", "gpus_per_actor")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A run.

    Attributes:
        inputs: files and folders: paths and URLs.
        out: folder of the outputs.
        single: name of the only output in it, if it was named; else empty.
        ending: of the outputs.
        form: of the outputs.
        model: its folder, absolute; None for ``identity``.
        settings: without what depends on the device.
        precision: of the network; None: what is usual on the device.
        batch_size: windows at once; None: what is usual on the device.
        codec_weights: where those of the codec are; None for the usual places.
        text_encoder: where it is; None for the usual place.
        engine: who does it.
        overwrite: do everything again.
        limit: failures in a row that end the run.
    """

    inputs: tuple[str, ...]
    out: Store
    single: str
    ending: str
    form: OutputFormat
    model: Path | None
    settings: Settings
    precision: Precision | None
    batch_size: int | None
    codec_weights: Path | None
    text_encoder: str | None
    engine: EngineOptions
    overwrite: bool
    limit: int

    @classmethod
    def of(cls, inputs: Sequence[str], out: str, options: Mapping[str, Any]) -> Self:
        """From what click has made of the command line.

        Raises:
            ConfigError: options that cannot be, alone or together.
        """
        place = open_store(out)
        if is_web(place.url):
            raise ConfigError(
                f"OUT {place.url}: a web server cannot be written to",
                hint="choose a folder, s3:// or gs://; https:// is for IN",
            )
        is_file = names_a_file(inputs, place)
        ending = ending_of(options["container"], place, is_file=is_file)
        form = output_format(Path(f"x{ending}"), options["bits"])
        model = options["model"]
        folder, single = _split(place) if is_file else (place, "")
        weights = options["codec_weights"]
        return cls(
            inputs=tuple(inputs),
            out=folder,
            single=single,
            ending=ending,
            form=form,
            model=None if model == IDENTITY else find_model(model).absolute(),
            settings=_settings(options, form),
            precision=options["precision"],
            batch_size=options["batch_size"],
            codec_weights=None if weights is None else weights.absolute(),
            text_encoder=options["text_encoder"],
            engine=_engine(options),
            overwrite=options["overwrite"],
            limit=BREAKER if options["max_failed"] < 1 else sys.maxsize,
        )

    def settings_on(self, device: str) -> Settings:
        """With what depends on the device."""
        where = "cpu" if self.model is None else device
        return self.settings.on(where, self.precision, self.batch_size)

    def digest(self, device: str) -> str:
        """A hash of all that decides what comes out, but for rounding."""
        return self.settings_on(device).digest(self.weights, repr(self.form))

    @cached_property
    def weights(self) -> str:
        """What the ledger knows the model by.

        Raises:
            ModelError: its card cannot be read.
        """
        return IDENTITY if self.model is None else model_digest(self.model)


def _split(place: Store) -> tuple[Store, str]:
    """The folder of a file, and its name there."""
    if isinstance(place, LocalStore):
        return LocalStore(place.path.parent), place.path.name
    folder, _, name = place.url.rpartition("/")
    return open_store(folder), name


def _settings(options: Mapping[str, Any], form: OutputFormat) -> Settings:
    given = {name: options[name] for name in _SETTINGS if options[name] is not None}
    settings = Settings(**given)
    if settings.rate is None:
        return settings
    return replace(settings, rate=form.file_rate(settings.rate))


def _engine(options: Mapping[str, Any]) -> EngineOptions:
    """Nothing but a network profits from another device."""
    given = {name: options[name] for name in _ENGINE}
    if options["model"] == IDENTITY:
        given["device"] = "cpu"
    return EngineOptions(**given)
