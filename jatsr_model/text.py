"""Captions as the states of a frozen T5 encoder."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from jatsr_model.text_files import (
    DEFAULT,
    find_text_encoder,
    load_text_encoder,
    read_config,
    text_encoder_folder,
    weight_files,
)
from shards.errors import ConfigError
from shards.files import canonical_json, sha256_file, sha256_json

__all__ = ["DEFAULT", "Embedded", "TextEncoder", "find_text_encoder"]

GROUP = 8  # captions of a call
SHORTEST = 16  # tokens of a call; longer ones double it
CACHE_BYTES = 1 << 30


class Embedded(NamedTuple):
    """Captions as ``Conditions`` has them.

    Attributes:
        text: float32 ``[B, L, D]``, zero where the mask is False; L depends on the longest.
        text_mask: bool ``[B, L]``, True for the tokens of a caption, its end included.
        has_text: bool ``[B]``, False for an empty caption.
    """

    text: Tensor
    text_mask: Tensor
    has_text: Tensor


class TextEncoder:
    """Embeds captions; keeps those that it met.

    A caption always gets the same states, whatever stands beside it: every call of the network
    has ``GROUP`` captions, filled up with copies, padded to a length that follows from their own.
    The network computes in float32 without autocast. States are kept in float16, met before or
    not: half the memory, and rounding of 0.05 % where SAGA-SR runs the whole encoder in float16.

    Args:
        place: a folder, or a repository in the cache of the Hugging Face hub.
        device: where the network runs and states are returned.
        max_tokens: longer captions are cut; the end token counts.
        width: what the states have to be wide, the ``text_dim`` of a network; None for any.
        cache_bytes: of states that are kept, on the CPU.
        download: fetch a repository that is not in the cache.

    Raises:
        ConfigError: it is not there, is not T5, has another width, or is damaged.
        EnvironmentFailure: the download fails.
    """

    def __init__(
        self,
        place: str | Path = DEFAULT,
        device: torch.device | str = "cpu",
        *,
        max_tokens: int = 128,
        width: int | None = None,
        cache_bytes: int = CACHE_BYTES,
        download: bool = False,
    ) -> None:
        self.folder = text_encoder_folder(place, download=download)
        self.width = int(read_config(self.folder)["d_model"])
        if width not in (None, self.width):
            raise ConfigError(
                f"--text-encoder {place}: its states are {self.width} wide, the network takes "
                f"text of width {width}",
                hint="T5-small has 512, T5-base 768, T5-large 1024",
            )
        self.device, self.max_tokens = torch.device(device), max_tokens
        self._tokenizer, self._network = load_text_encoder(self.folder)
        self._network.to(self.device)
        self._kept = _Kept(cache_bytes)

    @cached_property
    def identity(self) -> str:
        """Hash of what determines the states: weights, vocabulary, longest caption."""
        digest = hashlib.sha256()
        for path in weight_files(self.folder):
            digest.update(f"{path.name}\0{sha256_file(path)}\n".encode())
        vocabulary = hashlib.sha256(canonical_json(self._tokenizer.get_vocab())).hexdigest()
        return sha256_json(["t5", digest.hexdigest(), vocabulary, self.max_tokens])

    def __call__(self, captions: Sequence[str]) -> Embedded:
        """Embed captions; blanks at both ends do not count.

        Raises:
            ConfigError: states that are not finite in float16: the weights are damaged.
        """
        texts = [caption.strip() for caption in captions]
        states = self._states(sorted({text for text in texts if text}))
        longest = max((len(s) for s in states.values()), default=1)
        padded = torch.zeros(len(texts), self._length(longest), self.width, dtype=torch.float16)
        counts = torch.zeros(len(texts), dtype=torch.int64)
        for row, text in enumerate(texts):
            if text:
                counts[row] = len(states[text])
                padded[row, : counts[row]] = states[text]
        counts = counts.to(self.device)
        mask = torch.arange(padded.shape[1], device=self.device) < counts[:, None]
        return Embedded(padded.to(self.device).float(), mask, counts > 0)

    def _states(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """float16 ``[tokens, D]`` of each, on the CPU."""
        found = {text: self._kept.get(text) for text in texts}
        new = [text for text, states in found.items() if states is None]
        for text, states in self._compute(new):
            found[text] = states
            self._kept.put(text, states)
        return {text: states for text, states in found.items() if states is not None}

    def _compute(self, texts: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        if not texts:
            return
        found = self._tokenizer(list(texts), truncation=True, max_length=self.max_tokens)
        tokens = dict(zip(texts, found["input_ids"], strict=True))
        lengths = {text: self._length(len(tokens[text])) for text in texts}
        for length in sorted(set(lengths.values())):
            same = [text for text in texts if lengths[text] == length]
            for first in range(0, len(same), GROUP):
                group = same[first : first + GROUP]
                states = self._run([tokens[text] for text in group], length)
                for text, row in zip(group, states, strict=False):
                    yield text, row[: len(tokens[text])].clone()

    def _length(self, tokens: int) -> int:
        """Few different ones, so that few shapes are met."""
        length = SHORTEST
        while length < tokens:
            length *= 2
        return min(length, self.max_tokens)

    @torch.no_grad()
    def _run(self, tokens: Sequence[Sequence[int]], length: int) -> Tensor:
        """float16 ``[GROUP, length, D]`` on the CPU."""
        ids = torch.zeros(GROUP, length, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row in range(GROUP):
            own = tokens[row] if row < len(tokens) else tokens[0]
            ids[row, : len(own)] = torch.tensor(own)
            mask[row, : len(own)] = 1
        with torch.autocast(self.device.type, enabled=False):
            output = self._network(ids.to(self.device), attention_mask=mask.to(self.device))
        states: Tensor = (output.last_hidden_state.cpu() * mask[..., None]).half()
        if not states.isfinite().all():
            raise ConfigError(
                f"--text-encoder {self.folder}: its states are not finite numbers",
                hint="the weights are damaged: copy them again",
            )
        return states


class _Kept:
    """States by caption; those not used for longest go first."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._states: OrderedDict[str, Tensor] = OrderedDict()

    def get(self, text: str) -> Tensor | None:
        if text in self._states:
            self._states.move_to_end(text)
        return self._states.get(text)

    def put(self, text: str, states: Tensor) -> None:
        self._states[text] = states
        self._bytes += states.nbytes
        while self._bytes > self._limit:
            self._bytes -= self._states.popitem(last=False)[1].nbytes
