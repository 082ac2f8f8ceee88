"""The files of a text encoder: a folder, or a name in the cache of the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shards.errors import ConfigError, EnvironmentFailure

DEFAULT = "google-t5/t5-base"
CONFIG, TOKENIZER = "config.json", "tokenizer.json"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_WANTED = (CONFIG, "tokenizer*.json", "model*.safetensors", "model.safetensors.index.json")


def find_text_encoder(place: str | Path = DEFAULT) -> Path | None:
    """The folder of a text encoder on this machine; nothing is downloaded.

    Args:
        place: a folder, or the name of a repository of the hub.

    Returns:
        a folder with configuration, tokenizer and weights; None where any of them is missing.
    """
    folder = Path(place).expanduser()
    if folder.is_dir():
        return folder if _complete(folder) else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(str(place), CONFIG)
    except HFValidationError:
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return folder if _complete(folder) else None


def text_encoder_folder(place: str | Path = DEFAULT, *, download: bool = False) -> Path:
    """The folder of a text encoder that has to be there.

    Args:
        place: as for ``find_text_encoder``.
        download: fetch a repository that is not in the cache, into the cache.

    Raises:
        ConfigError: it is not on this machine.
        EnvironmentFailure: the download fails.
    """
    found = find_text_encoder(place)
    if found is None and download and not Path(place).expanduser().exists():
        _download(str(place))
        found = find_text_encoder(place)
    if found is None:
        raise ConfigError(
            f"--text-encoder {place}: no such folder or cached repository, or one that lacks some "
            f"of {CONFIG}, {TOKENIZER} and {_WEIGHTS[0]}",
            hint=f"name a complete folder, or fetch one once: hf download {DEFAULT}",
        )
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """The encoder's ``config.json``.

    Raises:
        ConfigError: it cannot be read, or is of another kind of network.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind, _ = config["model_type"], int(config["d_model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--text-encoder: {path} should describe a T5 network: {error!r}", hint=_KIND
        ) from error
    if kind != "t5":
        raise ConfigError(
            f"--text-encoder: expected a network of type t5, found {kind!r} in {path}", hint=_KIND
        )
    found: dict[str, Any] = config
    return found


_KIND = f"use T5, such as {DEFAULT}"


def weight_files(folder: Path) -> list[Path]:
    """All files of weights, in the order of their names."""
    return sorted(folder.glob("model*.safetensors"))


def load_text_encoder(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and frozen network, on the CPU in float32.

    Raises:
        ConfigError: a file is damaged, or the weights are not all there.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoTokenizer, T5EncoderModel

    again = "copy the folder again, or fetch it again"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        with _without_bars():
            network, report = T5EncoderModel.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"--text-encoder: the network in {folder} cannot be loaded: {error}", hint=again
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:  # they would be random
        raise ConfigError(
            f"--text-encoder: the weights in {folder} lack {len(missing)} tensors, such as "
            f"{missing[0]}",
            hint=again,
        )
    return tokenizer, network.eval().requires_grad_(False)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Progress bars are a matter of commands."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _complete(folder: Path) -> bool:
    weights = any((folder / name).is_file() for name in _WEIGHTS)
    return weights and all((folder / name).is_file() for name in (CONFIG, TOKENIZER))


def _download(name: str) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(name, allow_patterns=list(_WANTED))
    except Exception as error:  # the hub's client raises what its HTTP library does
        raise EnvironmentFailure(
            f"--text-encoder {name} could not be downloaded: {error}",
            hint="check the name and the network, or give a local folder",
        ) from error
