"""What a network is told besides the noisy latents, and what stands for what is not given.

A condition is left out in the same way in training, in validation and in guidance: a flag of its
sample is False, or the whole field is None.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from jatsr_model.chance import Chance
from jatsr_model.dit.config import DiTConfig
from jatsr_model.dit.embeddings import ScalarEmbedding

Name = Literal["low", "rolloff", "text"]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Conditions of a batch; networks ignore those they were not built for.

    Args:
        low: ``[B, C, T]``, normalised latents of the low-res signal.
        rolloff: ``[B, 2]``, roll-off of the input and of the target as shares of the Nyquist
            frequency.
        cutoff: ``[B]``, where the low-res signal ends, as a share of the Nyquist frequency; None if
            nothing is lost.
        text: ``[B, L, text_dim]``, embedded captions.
        text_mask: bool ``[B, L]``, False for padding.
        has_low: bool ``[B]``; None means that all samples have it.
        has_rolloff: bool ``[B, 2]``, input and target apart.
        has_text: bool ``[B]``.
    """

    low: Tensor
    rolloff: Tensor | None = None
    cutoff: Tensor | None = None
    text: Tensor | None = None
    text_mask: Tensor | None = None
    has_low: Tensor | None = None
    has_rolloff: Tensor | None = None
    has_text: Tensor | None = None

    def without(self, *names: Name) -> Conditions:
        """The same batch with conditions left out: the null branches of guidance.

        A network knows only what was left out in its training; see ``dropped``.
        """
        off = torch.zeros(self.low.shape[0], dtype=torch.bool, device=self.low.device)
        flags = {"low": off, "text": off, "rolloff": off[:, None].expand(-1, 2)}
        return replace(self, **{f"has_{name}": flags[name] for name in names})

    def untold(self) -> Conditions:
        """The same batch without roll-offs of the target: what is asked of envelopes mostly."""
        told = torch.tensor([True, False], device=self.low.device)
        before = self.has_rolloff
        flags = told.expand(self.low.shape[0], 2) if before is None else before & told
        return replace(self, has_rolloff=flags)

    def dropped(self, rate: float, chance: Chance) -> Conditions:
        """Leave out each condition of each sample independently, with probability ``rate``.

        Four flags: low-res latents, input roll-off, target roll-off, text. What was left out before
        stays out.

        With a rate of 10 %, a network meets every single flag off in 10 % of samples, and every two
        in 1 %, such as low and text, or both roll-offs: these may serve guidance. Three in 0.1 %
        (text and both roll-offs) and all four in 0.01 % are too rare to be learned, unless the data
        themselves lack them (samples without a caption).

        Args:
            rate: 0 to 1.
            chance: on the device of ``low``.
        """
        drawn = chance.uniform("drop", 4) >= rate
        flags = {"has_low": drawn[:, 0], "has_rolloff": drawn[:, 1:3], "has_text": drawn[:, 3]}
        for name, flag in flags.items():
            before = getattr(self, name)
            flags[name] = flag if before is None else flag & before
        return replace(self, **flags)

    def with_noise(self, ratio: float, chance: Chance) -> Conditions:
        """Add white noise of standard deviation ``ratio`` to the normalised low-res latents."""
        noise = chance.normal("low", *self.low.shape[1:])
        return replace(self, low=self.low + ratio * noise)


class Context(NamedTuple):
    """What cross-attention looks at: ``[B, M, text_dim]``, and bool ``[B, 1, 1, M]``."""

    tokens: Tensor
    mask: Tensor


class Null(nn.Module):
    """The vector that stands for a condition that is not given: learned, or zero."""

    def __init__(self, width: int, *, learned: bool) -> None:
        super().__init__()
        self.width = width
        self.vector = nn.Parameter(torch.zeros(width)) if learned else None

    def forward(self, like: Tensor) -> Tensor:
        """``[width]``, of the type and on the device of ``like``."""
        return like.new_zeros(self.width) if self.vector is None else self.vector.to(like.dtype)


class ConditionEncoder(nn.Module):
    """Conditions as latents beside the noisy ones, a vector beside time, and context tokens."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.text_dim = config.text_dim
        learned = config.null == "learned"
        self.null_low = Null(config.latent_dim, learned=learned)
        if config.rolloff_dim:
            self.input_rolloff = ScalarEmbedding(config.rolloff_dim)
            self.target_rolloff = ScalarEmbedding(config.rolloff_dim)
            self.null_rolloff = Null(2 * config.rolloff_dim, learned=learned)
            self.rolloff_mlp = _mlp(2 * config.rolloff_dim, config.hidden)
        self.has_rolloffs = bool(config.rolloff_dim)
        if config.text_dim:
            self.null_text = Null(config.text_dim, learned=learned)
            self.text_mlp = _mlp(config.text_dim, config.text_dim)

    def low(self, given: Conditions) -> Tensor:
        """``[B, C, T]``, with the null vector in every frame of a sample that has none."""
        if given.has_low is None:
            return given.low
        null = self.null_low(given.low)[:, None]
        return torch.where(given.has_low[:, None, None], given.low, null)

    def rolloff(self, given: Conditions) -> Tensor | None:
        """Embedded roll-offs ``[B, 2, rolloff_dim]``; None for a network without."""
        if not self.has_rolloffs:
            return None
        null: Tensor = self.null_rolloff(given.low).view(2, -1)
        if given.rolloff is None:
            return null.expand(given.low.shape[0], -1, -1)
        values = [self.input_rolloff(given.rolloff[:, 0]), self.target_rolloff(given.rolloff[:, 1])]
        embedded = torch.stack(values, dim=1)
        if given.has_rolloff is None:
            return embedded
        return torch.where(given.has_rolloff[..., None], embedded, null.to(embedded.dtype))

    def vector(self, rolloff: Tensor | None) -> Tensor | float:
        """``[B, hidden]``, to be added to embedded time."""
        return 0.0 if rolloff is None else self.rolloff_mlp(rolloff.flatten(1))

    def context(self, given: Conditions, rolloff: Tensor | None) -> Context | None:
        """The null token, text, roll-offs; None for a network without text.

        The null token is always there, so that a sample without text looks at something.
        """
        if not self.text_dim:
            return None
        batch, device = given.low.shape[0], given.low.device
        tokens = [self.null_text(given.low).expand(batch, 1, -1)]
        masks = [torch.ones(batch, 1, dtype=torch.bool, device=device)]
        if given.text is not None:
            tokens.append(given.text)
            masks.append(_text_mask(given, given.text))
        if rolloff is not None:
            tokens.append(rolloff)
            masks.append(torch.ones(batch, 2, dtype=torch.bool, device=device))
        joined = torch.cat([token.to(tokens[-1].dtype) for token in tokens], dim=1)
        return Context(self.text_mlp(joined), torch.cat(masks, dim=1)[:, None, None])


def _text_mask(given: Conditions, text: Tensor) -> Tensor:
    mask = given.text_mask
    if mask is None:
        mask = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)
    return mask if given.has_text is None else mask & given.has_text[:, None]


def _mlp(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, out, bias=False), nn.SiLU(), nn.Linear(out, out, bias=False)
    )
