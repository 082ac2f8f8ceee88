"""The shape of a network. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from shards.errors import ConfigError

Norm = Literal["layer", "scaled-layer", "rms"]
Mlp = Literal["gelu", "swiglu"]
Entry = Literal["bottleneck", "linear", "convolution", "levels"]
Modulation = Literal["block", "shared", "token"]
TimeEmbedding = Literal["sinusoid", "fourier"]
Null = Literal["zero", "learned"]

_CHOICES = {
    "mlp": Mlp,
    "entry": Entry,
    "norm": Norm,
    "modulation": Modulation,
    "time": TimeEmbedding,
    "null": Null,
}
_AT_LEAST_1 = ("latent_dim", "hidden", "depth", "heads", "kv_heads", "mlp_hidden", "patch",
               "bottleneck", "band")  # fmt: skip
_AT_LEAST_0 = ("rotary", "text_dim", "text_kv_heads", "rolloff_dim")


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Everything that determines the parameters and the function of a ``DiT``.

    Args:
        latent_dim: channels of a latent frame; the low-res latents have as many.
        hidden: width of a token.
        depth: blocks.
        heads: query heads of self- and cross-attention; ``hidden / heads`` is the head's width.
        kv_heads: key and value heads of self-attention; divides ``heads``.
        mlp: ``gelu``, or ``swiglu`` with a gate.
        mlp_hidden: inner width of the MLP.
        patch: frames per token.
        entry: how patches become tokens: ``bottleneck`` (linear, GELU, linear), ``linear``, or
            ``convolution`` (residual 1x1 convolutions at both ends, linear without bias, no last
            norm, as in Stable Audio), or ``levels`` (linear, of the levels of the low-res latents
            alone: for envelopes, which depend neither on noise nor on its time).
        bottleneck: width between the two layers of a ``bottleneck`` entry.
        norm: ``layer`` without parameters, ``scaled-layer`` with a scale, or ``rms``.
        modulation: how time acts: ``block`` (adaLN-Zero, one projection per block), ``shared`` (one
            projection for all blocks and an offset for each), or ``token`` (one token in front).
        time: ``sinusoid`` or learned ``fourier`` features.
        time_scale: factor of t in front of the sinusoids. The original has 1, which leaves 99 % of
            the embedding constant over [0, 1].
        rotary: rotated dimensions of a head; 0 rotates all.
        qk_norm: RMSNorm of every query and key.
        dropout: in the MLP during training; in legacy mode also of attention weights, which keeps
            CPUs from their fast kernel of attention.
        drop_path: share of dropped branches in the last block, growing linearly from 0.
        text_dim: width of text embeddings, 0 for none.
        text_kv_heads: key and value heads of cross-attention.
        rolloff_dim: width of a roll-off embedding, 0 for none. With text it must be ``text_dim``,
            since roll-offs are then also tokens that cross-attention sees.
        null: what stands for a condition that is not given.
        skip: noisy and low-res latents go around the blocks, see ``Skip``; for networks that
            predict data.
        power: power of a latent that is proportional to energy, 2 or 4; for envelopes.
        band: neighbouring channels whose levels enter as one; for envelopes.
        cutoff: told where the low-res signal ends; for envelopes, of latents whose channels are
            bands of audio.
        legacy: zeros that fill the last patch are attended to, as in the original; only with a
            ``bottleneck`` entry.
    """

    latent_dim: int
    hidden: int
    depth: int
    heads: int
    kv_heads: int
    mlp_hidden: int
    mlp: Mlp = "gelu"
    patch: int = 4
    entry: Entry = "bottleneck"
    bottleneck: int = 512
    norm: Norm = "layer"
    modulation: Modulation = "block"
    time: TimeEmbedding = "sinusoid"
    time_scale: float = 1000.0
    rotary: int = 0
    qk_norm: bool = False
    dropout: float = 0.0
    drop_path: float = 0.0
    text_dim: int = 0
    text_kv_heads: int = 0
    rolloff_dim: int = 0
    null: Null = "zero"
    skip: bool = False
    power: int = 2
    band: int = 1
    cutoff: bool = False
    legacy: bool = False

    def __post_init__(self) -> None:
        """Check what depends on several fields.

        Raises:
            ConfigError: the fields do not fit together.
        """
        for name, kind in _CHOICES.items():
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(
                    f"{name} is '{getattr(self, name)}'", hint="one of " + ", ".join(get_args(kind))
                )
        self._check_numbers()
        _divides("heads", self.heads, "hidden", self.hidden)
        _divides("kv_heads", self.kv_heads, "heads", self.heads)
        if self.rotated % 2:
            raise ConfigError(
                f"rotary positions turn pairs, but a head rotates {self.rotated} dimensions",
                hint="make hidden / heads, or rotary, an even number",
            )
        if self.rotated > self.head_dim:
            raise ConfigError(
                f"rotary is {self.rotary}, more than the {self.head_dim} dimensions of a head",
                hint="lower rotary, or give 0 to rotate the whole head",
            )
        if self.time == "sinusoid" and (self.hidden % 2 or self.hidden < 4):
            raise ConfigError(
                f"sinusoids come in pairs, but hidden is {self.hidden}",
                hint="give an even hidden of 4 or more",
            )
        if self.text_dim:
            _divides("text_kv_heads", self.text_kv_heads, "heads", self.heads)
        if self.text_dim and self.rolloff_dim not in (0, self.text_dim):
            raise ConfigError(
                f"rolloff_dim is {self.rolloff_dim} and text_dim {self.text_dim}",
                hint="with text they must be equal: roll-offs are tokens beside the text",
            )
        if self.cutoff and not self.tells_levels:
            raise ConfigError(
                f"cutoff with a {self.entry} entry", hint="only networks for envelopes are told it"
            )
        if self.power not in (2, 4):
            raise ConfigError(f"power is {self.power}", hint="2 or 4")
        if self.legacy and self.entry != "bottleneck":
            raise ConfigError(
                f"legacy with a {self.entry} entry", hint="the originals have entry 'bottleneck'"
            )

    def _check_numbers(self) -> None:
        for least, names in ((1, _AT_LEAST_1), (0, _AT_LEAST_0)):
            for name in names:
                value = getattr(self, name)
                if type(value) is not int or value < least:
                    raise ConfigError(
                        f"{name} is {value!r}", hint=f"give a whole number, {least} or more"
                    )
        for name in ("dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="0 or more, below 1")
        if not math.isfinite(self.time_scale):
            raise ConfigError(f"time_scale is {self.time_scale}", hint="give a finite number")

    @property
    def tells_levels(self) -> bool:
        """Whether it is a network for envelopes."""
        return self.entry == "levels"

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.hidden // self.heads

    @property
    def rotated(self) -> int:
        """Dimensions of a head that carry positions."""
        return self.rotary or self.head_dim


def _divides(name: str, value: int, whole_name: str, whole: int) -> None:
    if value < 1 or whole % value:
        raise ConfigError(
            f"{name} is {value}, which does not divide {whole_name} = {whole}",
            hint=f"choose {name} among the divisors of {whole_name}",
        )
