"""How a worker makes outputs: which model, on what, and how it is asked."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jatsr_model.upsampling.model import load_model
from jatsr_model.upsampling.output_format import OutputFormat
from jatsr_model.upsampling.render import Renderer
from jatsr_model.upsampling.settings import Settings
from shards.errors import EnvironmentFailure


@dataclass(frozen=True, kw_only=True)
class Upsampler:
    """Everything that a worker needs to make outputs; picklable.

    Attributes:
        model: folder of the model, absolute; None passes everything through.
        weights: its digest; empty for any.
        device: where it runs.
        codec_weights: where those of its codec are; None for the usual places.
        settings: how.
        form: of the outputs.
        text_encoder: where to look for it.
    """

    model: Path | None
    weights: str = ""
    device: str = "cpu"
    codec_weights: Path | None = None
    settings: Settings
    form: OutputFormat
    text_encoder: str | None = None

    def renderer(self) -> Renderer:
        """With the model in memory.

        Raises:
            JatsrError: there is no such model, or the settings do not suit it.
        """
        model = None
        if self.model is not None:
            model = load_model(self.model, self.device, self.codec_weights)
            if self.weights and model.digest != self.weights:
                raise EnvironmentFailure(
                    f"{socket.gethostname()}: --model {self.model}: expected the weights "
                    f"{self.weights[:12]}, found {model.digest[:12]}",
                    hint="use the same folder on every machine, and one that no training changes",
                )
        return Renderer(model, self.settings, self.form, self.text_encoder)

    @property
    def facts(self) -> dict[str, Any]:
        """How it computes, for the ledger."""
        kind = self.device.partition(":")[0]
        return {"device": kind, "precision": self.settings.precision} if self.model else {}
