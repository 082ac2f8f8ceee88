"""Audio made on the spot; what datasets hold; a build's messages; processes that end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from jatsr_model.codecs import CodecConfig, load, resolve
from shards.storage import Store
from shards.tar import read_samples
from shards.verify import Problem, verify


def music(seconds: float, seed: int = 0, rate: int = 44100, channels: int = 2) -> NDArray:
    """Chords with noise bursts: tonal, broadband, moving; float64 [samples, channels]."""
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    sound = np.zeros((len(time), channels))
    for _ in range(6):
        pitch = 110 * 2 ** (random.integers(0, 36) / 12)
        start = random.uniform(0, max(seconds - 0.1, 0.01))
        envelope = np.exp(-3 * np.maximum(time - start, 0)) * (time >= start)
        tone = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 8))
        sound += (envelope * tone)[:, None] * random.uniform(0.03, 0.1, channels)
    bursts = random.standard_normal((len(time), channels)) * (np.sin(7 * time) > 0.9)[:, None]
    return np.clip(sound + 0.05 * bursts + 0.002 * random.standard_normal(sound.shape), -0.99, 0.99)


def write_music(
    path: Path, seconds: float, seed: int = 0, rate: int = 44100, channels: int = 2
) -> Path:
    """Write ``music`` in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {}
    soundfile.write(path, music(seconds, seed, rate, channels), rate, **options)
    return path


@dataclass
class QuietUi:
    """Remembers what it was told."""

    notes: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)

    def note(self, message: str) -> None:
        self.notes.append(message)

    def start(self, phase: str, total: float, unit: str) -> None:
        self.phases.append(phase)

    def advance(self, amount: float) -> None:
        pass


def shard_bytes(dataset: Path) -> dict[str, bytes]:
    """Every shard of a dataset."""
    return {
        path.relative_to(dataset).as_posix(): path.read_bytes()
        for path in sorted(dataset.glob("*/*.tar"))
    }


def sample_bytes(dataset: Path) -> dict[str, dict[str, bytes]]:
    """Every sample of a dataset by key, whatever shard it is in."""
    return {
        key: members
        for path in dataset.glob("*/*.tar")
        for key, _, _, members in read_samples(path)
    }


def problems(dataset: Store | Path | str) -> list[Problem]:
    """What ``verify`` finds wrong with a dataset of the embedded codec."""
    codec = load(resolve(CodecConfig(name="mdct")))
    return [p for checked in verify(dataset, codec.spaces) for p in checked.problems]


def wait_until_gone(look: Callable[[], object], seconds: int) -> None:
    """What ends in its own time has this long; else the test fails and says what is still there."""
    for _ in range(10 * seconds):
        if not look():
            return
        time.sleep(0.1)
    found = look()
    assert not found, f"still there after {seconds} s: {found}"
