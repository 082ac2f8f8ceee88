"""Captions by Qwen2-Audio, from weights on this machine.

Prompt and decoding follow SAGA-SR's preparation: the base model, one audio, the request to
generate the caption in English, leading blanks stripped. Here decoding is greedy and the length
limit counts new tokens only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.captions.clip import CLIP_RATE, CLIP_SECONDS
from pipeline.captions.text import clean
from shards.errors import ConfigError, MissingExtraError
from shards.files import sha256_file

PROMPT = "<|audio_bos|><|AUDIO|><|audio_eos|>Generate the caption in English:"
MAX_NEW_TOKENS = 128
BATCH_SIZE = 8
MAX_CHARACTERS = 2000
_CLIP_SAMPLES = CLIP_RATE * CLIP_SECONDS
_HASHED = ("*.json", "*.txt", "*.safetensors", "*.model", "*.jinja")


class AudioCaptioner:
    """A loaded Qwen2-Audio.

    Args:
        path: folder with ``config.json``, the processor's files and the weights; nothing is
            ever downloaded.
        device: for example ``cpu`` or ``cuda``; the network runs in float32 on the CPU and in
            bfloat16 elsewhere.
        batch_size: clips per call of the network. Every call has this many, whatever is left
            over, so that a caption does not depend on its neighbours.
        max_new_tokens: longest caption in tokens.

    Raises:
        ConfigError: the folder is missing or does not hold such a model.
        MissingExtraError: torch or transformers is not installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str = "cpu",
        batch_size: int = BATCH_SIZE,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        self._device, self._batch_size = device, batch_size
        self._max_new_tokens = max_new_tokens
        self._path = path
        _expect_model(path)
        self._dtype = _dtype(device)
        self._processor, self._model = _load(path, device, self._dtype)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """See ``model_identity``; hashing the weights takes long, so only where it is asked for."""
        return model_identity(
            self._path,
            device=self._device,
            batch_size=self._batch_size,
            max_new_tokens=self._max_new_tokens,
        )

    @property
    def batch_size(self) -> int:
        """Clips per call of the network."""
        return self._batch_size

    def caption(self, clips: Sequence[NDArray[np.float32]]) -> list[str]:
        """Describe clips, each in one line; a line may be empty if the model says nothing.

        Args:
            clips: mono float32 ``[n]`` at 16 kHz, ``n >= 1``; only the first 30 s are heard.
        """
        captions: list[str] = []
        for start in range(0, len(clips), self._batch_size):
            batch = list(clips[start : start + self._batch_size])
            filler = [batch[0]] * (self._batch_size - len(batch))
            captions += self._generate([*batch, *filler])[: len(batch)]
        return captions

    def _generate(self, clips: Sequence[NDArray[np.float32]]) -> list[str]:
        import torch

        inputs = self._inputs(clips).to(self._device)
        inputs["input_features"] = inputs["input_features"].to(getattr(torch, self._dtype))
        with torch.inference_mode():
            tokens = self._model.generate(
                **inputs,
                max_new_tokens=self._max_new_tokens,
                do_sample=False,
                num_beams=1,
            )
        new = tokens[:, inputs["input_ids"].shape[1] :]
        texts = self._processor.batch_decode(new, skip_special_tokens=True)
        return [clean(text, MAX_CHARACTERS) for text in texts]

    def _inputs(self, clips: Sequence[NDArray[np.float32]]) -> Any:
        """Tensors of one fixed shape: prompts are padded to the length of that of a full clip."""
        process = self._processor
        full = process(
            text=PROMPT,
            audio=[np.zeros(_CLIP_SAMPLES, np.float32)],
            sampling_rate=CLIP_RATE,
            return_tensors="pt",
        )
        return process(
            text=[PROMPT] * len(clips),
            audio=[clip[:_CLIP_SAMPLES] for clip in clips],
            return_tensors="pt",
            # Apart, since max_length counts tokens in one and samples in the other.
            text_kwargs={"padding": "max_length", "max_length": full["input_ids"].shape[1]},
            audio_kwargs={"padding": "max_length", "sampling_rate": CLIP_RATE},
        )


def model_identity(
    path: Path,
    *,
    device: str,
    batch_size: int = BATCH_SIZE,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Mapping[str, Any]:
    """JSON-ready facts that determine a caption, besides the audio; the model is not loaded.

    Raises:
        ConfigError: the folder is missing or does not hold such a model.
    """
    _expect_model(path)
    return {
        "name": "qwen2-audio",
        "sha256": folder_hash(path),
        "prompt": PROMPT,
        "max_new_tokens": max_new_tokens,
        "device": device.partition(":")[0],
        "dtype": _dtype(device),
        "batch_size": batch_size,
    }


def _dtype(device: str) -> str:
    return "float32" if device.startswith("cpu") else "bfloat16"


def folder_hash(path: Path) -> str:
    """SHA-256 over the names and contents of a model folder's configuration and weights."""
    digest = hashlib.sha256()
    for file in _model_files(path):
        digest.update(f"{file.name}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()


def _model_files(path: Path) -> Iterator[Path]:
    yield from sorted({file for pattern in _HASHED for file in path.glob(pattern)})


def _expect_model(path: Path) -> None:
    hint = (
        "download Qwen/Qwen2-Audio-7B once and give its folder: --captions "
        "sidecar,tags,qwen2-audio:FOLDER"
    )
    config = path / "config.json"
    if not config.is_file():
        raise ConfigError(
            f"--captions: expected a model folder with config.json, found none at {path}",
            hint=hint,
        )
    try:
        kind = json.loads(config.read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"--captions: {config} cannot be read: {error}", hint=hint) from error
    if kind != "qwen2_audio":
        raise ConfigError(
            f"--captions: expected a model of type qwen2_audio, found {kind!r} in {config}",
            hint=hint,
        )


def _load(path: Path, device: str, dtype: str) -> tuple[Any, Any]:
    try:
        import torch
        from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration
    except ImportError as error:
        raise MissingExtraError(
            f"captions by a model need torch and transformers: {error}",
            hint="pip install 'jatsr[captions]'",
        ) from error
    try:
        processor = AutoProcessor.from_pretrained(path, local_files_only=True)
        model = Qwen2AudioForConditionalGeneration.from_pretrained(
            path, local_files_only=True, use_safetensors=True, dtype=getattr(torch, dtype)
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"--captions: the model in {path} cannot be loaded: {error}",
            hint="the folder must be a complete copy of Qwen/Qwen2-Audio-7B",
        ) from error
    # New tokens follow the prompt, so padding must come before it.
    processor.tokenizer.padding_side = "left"
    return processor, model.to(device).eval()
