"""How files are upsampled: everything that decides the result but the input."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Literal

from jatsr_model.sampling import Guidance
from shards.errors import ConfigError
from shards.files import sha256_json

VERSION = 4  # of the arithmetic: another one makes other outputs
IDENTITY = "identity"
STEPS = 16
RATE = 44_100  # Hz, of outputs that no model decides
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a run.

    Args:
        rate: Hz, of the outputs; None: of each the input's or the model's, whichever is higher.
        steps: of the solver; None for as many as the model needs: 1 for envelopes, else ``STEPS``.
        solver: ``euler``, ``midpoint`` or ``heun``.
        grid: of times.
        guidance: scale of the low-res input, 1 for none.
        text_guidance: scale of the prompt; None for none.
        target_hz: below it lies 98.5 % of the spectrum that is asked for; where the input reaches
            higher, its own is. None: nothing is asked for.
        prompt: what it sounds like; empty for nothing.
        seed: of noise and dither.
        window_frames: of a window; None for the length of the crops that the model learned from.
        precision: of the network.
        batch_size: windows that are sampled together; decides nothing but rounding, and on CPUs
            not even that.
    """

    rate: int | None = None
    steps: int | None = None
    solver: str = "euler"
    grid: str = "uniform"
    guidance: float = 1.0
    text_guidance: float | None = None
    target_hz: float | None = None
    prompt: str = ""
    seed: int = 0
    window_frames: int | None = None
    precision: Precision = "fp32"
    batch_size: int = 1

    def __post_init__(self) -> None:
        """Check what one number says.

        Raises:
            ConfigError: it cannot work; names the flag.
        """
        for name, least in (("steps", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                flag = "--" + name.replace("_", "-")
                raise ConfigError(f"{flag} {value}: give {least} or more")
        if self.rate is not None and not 1000 <= self.rate <= 768_000:
            raise ConfigError(f"--rate {self.rate}: give 1000 to 768000 Hz")
        if self.target_hz is not None and not 0 < self.target_hz < math.inf:
            raise ConfigError(f"--target-rolloff {self.target_hz}: give Hz, such as 15000")
        if self.text_guidance is not None and not self.prompt:
            raise ConfigError(
                f"--cfg-text {self.text_guidance}: there is no --prompt to be guided by"
            )

    @property
    def guided(self) -> Guidance:
        """As the sampler takes it."""
        return Guidance(scale=self.guidance, text=self.text_guidance)

    def on(self, device: str, precision: Precision | None, batch_size: int | None) -> Settings:
        """With what is usual on a device, where nothing else is asked for."""
        on_gpu = device.startswith("cuda")
        return replace(
            self,
            precision=precision or ("bf16" if on_gpu else "fp32"),
            batch_size=batch_size or (16 if on_gpu else 1),
        )

    def digest(self, *beside: str) -> str:
        """A hash of all that decides the samples.

        Args:
            beside: what else does: weights, format.
        """
        facts = asdict(self)
        del facts["batch_size"]
        return sha256_json([VERSION, facts, *beside])
