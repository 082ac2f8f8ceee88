"""What is promised of outputs, with a network that has learned a little, on music.

The music is synthesised by ``examples/make_music.py``. ``JATSR_TEST_MUSIC=FOLDER`` takes 8 seconds
from the middle of real tracks instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from trainings import OPEN, trained
from upsamplings import read, resampled, write

from jatsr_model.audio.decode import open_audio
from jatsr_model.audio.loudness import LoudnessMeter
from jatsr_model.upsampling.model import Model, load_model
from jatsr_model.upsampling.output_format import output_format
from jatsr_model.upsampling.render import Renderer
from jatsr_model.upsampling.rendering import Job, Result
from jatsr_model.upsampling.settings import Settings
from jatsr_model.upsampling.windows import layout_for

RATE = 44_100
SECONDS = 8
LEARNED, HELD_OUT = range(5), range(20, 22)
LOW_RATES = [8000, 16_000, 24_000]
SETTINGS = Settings(steps=4)
Signal = NDArray[np.float32]


class Upsampled(NamedTuple):
    """A track as it was, resampled, and as it became; ``[2, n]`` at 44.1 kHz."""

    low: Signal
    found: Signal
    result: Result


def _make_music() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "make_music.py"
    spec = spec_from_file_location("make_music", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _synthesised() -> Iterator[Signal]:
    music = _make_music()
    for seed in (*LEARNED, *HELD_OUT):
        tempo, root = 80 + 13 * seed % 60, 48 + 5 * seed % 13
        # Longer than needed: a piece fades out.
        piece = music.piece(seed, RATE, 2, tempo, root, SECONDS + 2)
        yield piece[: SECONDS * RATE].T.astype(np.float32)


def _real(folder: str) -> Iterator[Signal]:
    paths = [path for path in sorted(Path(folder).rglob("*.*")) if path.stat().st_size > 1_000_000]
    for path in paths[:: max(len(paths) // 8, 1)][:8]:
        with open_audio(path) as audio:
            rate = audio.format.rate
            whole = np.concatenate(list(audio.blocks()))
        middle = whole[len(whole) // 2 :][: SECONDS * rate]
        signal = soxr.resample(np.broadcast_to(middle, (len(middle), 2)), rate, RATE)
        yield signal.T.astype(np.float32)


@pytest.fixture(scope="module")
def tracks() -> list[Signal]:
    """Those that are learned from, then those that are not."""
    folder = os.environ.get("JATSR_TEST_MUSIC")
    return list(_real(folder) if folder else _synthesised())


@pytest.fixture(scope="module")
def learned(
    tracks: list[Signal], tmp_path_factory: pytest.TempPathFactory, build: Callable[..., object]
) -> Iterator[Model]:
    """A model, trained for seconds."""
    folder = tmp_path_factory.mktemp("learned")
    for number in LEARNED:
        write(folder / "music" / f"{number}.wav", tracks[number], RATE)
    low = [f"sinc:{rate}" for rate in LOW_RATES]
    build(folder / "music", folder / "dataset", lr=low, val_fraction=0.2)
    changes: dict[str, Any] = {"steps": 40, "batch_size": 8, "crop_frames": 64, "lr": 3e-3}
    trained(folder / "run", folder / "dataset", **changes)
    yield load_model(folder / "run" / "checkpoints" / "last")
    while OPEN:
        OPEN.pop()()


@pytest.fixture(scope="module")
def upsampled(
    learned: Model, tracks: list[Signal], tmp_path_factory: pytest.TempPathFactory
) -> dict[int, list[Upsampled]]:
    """Tracks that were not learned from, by rate, with half a second of silence in the middle."""
    folder = tmp_path_factory.mktemp("upsampled")
    found: dict[int, list[Upsampled]] = {}
    for rate in LOW_RATES:
        jobs = []
        for number, track in enumerate(tracks[-len(HELD_OUT) :]):
            low = soxr.resample(track.T, RATE, rate, "VHQ").T
            low[:, len(low.T) // 2 :][:, : rate // 2] = 0
            source = write(folder / str(rate) / f"{number}.wav", low, rate)
            target = folder / f"{rate}-out" / source.name
            jobs.append(Job(source=source, target=target, digest="0" * 64))
        results = dict(Renderer(learned, SETTINGS, output_format(Path("x.wav"), "float")).run(jobs))
        found[rate] = [
            Upsampled(resampled(read(job.source)[0], rate, RATE), read(job.target)[0], results[job])
            for job in jobs
        ]
    return found


def _spectra(signal: Signal, size: int = 2048) -> NDArray[np.float64]:
    """Power of the mean channel, ``[frames, bins]``, as LSD is defined."""
    mono = signal.mean(axis=0, dtype=np.float64)
    frames = np.lib.stride_tricks.sliding_window_view(mono, size)[:: size // 4]
    return np.abs(np.fft.rfft(frames * np.hanning(size + 1)[:-1])) ** 2


def _lufs(signal: Signal) -> float:
    meter = LoudnessMeter(RATE, len(signal))
    meter.push(signal)
    return meter.result().lufs


@pytest.mark.parametrize("rate", LOW_RATES)
def test_length_loudness_and_the_own_band_are_the_inputs(
    upsampled: dict[int, list[Upsampled]], rate: int
) -> None:
    for track in upsampled[rate]:
        assert track.result.status == "ok"
        assert track.found.shape == track.low.shape
        assert abs(_lufs(track.found) - _lufs(track.low)) < 1.0
        size = 4096
        last = int(track.result.facts["crossover_low_hz"] / RATE * size) - 8
        change = _spectra(track.found - track.low, size)[:, :last]
        assert change.mean() < 1e-6 * _spectra(track.low, size)[:, :last].mean()


@pytest.mark.parametrize("rate", LOW_RATES)
def test_silence_stays_silence(upsampled: dict[int, list[Upsampled]], rate: int) -> None:
    for track in upsampled[rate]:
        middle = track.found.shape[1] // 2 + RATE // 4
        assert not track.found[:, middle - RATE // 8 : middle + RATE // 8].any()
        assert track.found[:, middle + RATE : middle + 2 * RATE].any()


@pytest.mark.parametrize("rate", LOW_RATES)
def test_no_line_at_the_cutoff(upsampled: dict[int, list[Upsampled]], rate: int) -> None:
    """In the sixth of an octave around it the level lies between those on both sides."""
    for track in upsampled[rate]:
        power = 10 * np.log10(_spectra(track.found).mean(axis=0))
        bins = np.arange(len(power)) * RATE / 2048
        cut = track.result.facts["crossover_hz"]
        sides = [power[(bins > cut * a) & (bins < cut * b)] for a, b in ((0.75, 0.9), (1.1, 1.3))]
        levels = [np.median(side) for side in sides]
        spread = max(np.ptp(np.quantile(side, [0.1, 0.9])) for side in sides)
        at = np.median(power[(bins > cut * 0.96) & (bins < cut * 1.04)])
        assert min(levels) - spread - 1 < at < max(levels) + spread + 1


def test_windows_do_not_show(learned: Model, tracks: list[Signal], tmp_path: Path) -> None:
    """Of music, flux of the generated band is at joints what it is elsewhere."""
    low = soxr.resample(tracks[-1].T, RATE, 16_000, "VHQ").T
    source = write(tmp_path / "a.wav", low, 16_000)
    frames, hop = 48, learned.codec.hop
    settings = replace(SETTINGS, window_frames=frames)
    job = Job(source=source, target=tmp_path / "out.wav", digest="0" * 64)
    list(Renderer(learned, settings, output_format(Path("x.wav"), "float")).run([job]))
    found = read(job.target)[0].mean(axis=0)
    pieces = found[: len(found) // hop * hop].reshape(-1, hop) * np.hanning(hop)
    logs = np.log(1e-6 + np.abs(np.fft.rfft(pieces))[:, hop * 8500 // RATE :])
    flux = np.square(np.diff(logs, axis=0)).mean(axis=1)
    layout = layout_for(frames, learned.codec.decode_context)
    joints = np.zeros(len(flux), bool)
    for window in list(layout.windows(-(-len(found) // hop)))[1:]:
        joints[window.first : window.first + layout.span - 1] = True
    spread = flux.std() / np.sqrt(joints.sum())
    assert joints.sum() > 60
    assert abs(flux[joints].mean() - flux[~joints].mean()) < 4 * spread
