"""What is promised of every output, with a network of random weights and with none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from sounds import power_spectrum, tilted
from torch.utils._python_dispatch import TorchDispatchMode
from upsamplings import CROP, dull, random_model, read, resampled, write

from jatsr_model.audio import decode
from jatsr_model.audio.resample import output_length
from jatsr_model.dit import Conditions
from jatsr_model.text import Embedded
from jatsr_model.upsampling import prompt
from jatsr_model.upsampling.model import Model, load_model
from jatsr_model.upsampling.output_format import Bits, output_format
from jatsr_model.upsampling.pool import Pool
from jatsr_model.upsampling.render import Renderer
from jatsr_model.upsampling.rendering import Job, Result
from jatsr_model.upsampling.settings import Settings
from jatsr_model.upsampling.sound import gain_for
from jatsr_model.upsampling.windows import layout_for
from shards.errors import ConfigError, EnvironmentFailure
from shards.files import sha256_file

QUICK = Settings(steps=2)
HOP = 512
WINDOW = CROP * HOP  # samples


def render(
    model: Model | None,
    sources: list[Path],
    out: Path,
    settings: Settings = QUICK,
    bits: Bits | None = "float",
    ending: str = ".wav",
    key: str = "",
) -> list[Result]:
    """Into ``out``, in the order of the sources; the noise depends on the key, if there is one."""
    form = output_format(Path(f"x{ending}"), bits)
    jobs = [
        Job(source=source, target=out / f"{source.stem}{ending}", digest=key or sha256_file(source))
        for source in sources
    ]
    found = {job.source: result for job, result in Renderer(model, settings, form).run(jobs)}
    return [found[source] for source in sources]


@pytest.fixture
def through(model: Model, tmp_path: Path) -> Callable[..., NDArray[np.float32]]:
    """Through the random network: ``through(signal, rate)`` -> ``[channels, n]``."""
    count = iter(range(1000))

    def run(signal: NDArray[np.float32], rate: int, **changes: Any) -> NDArray[np.float32]:
        source = write(tmp_path / f"in{next(count)}.wav", signal, rate)
        settings = replace(QUICK, **changes)
        (result,) = render(model, [source], tmp_path / "out", settings, key="the same noise")
        assert result.status == "ok", result
        return read(tmp_path / "out" / source.name)[0]

    return run


LENGTHS = [1, 2, 700, WINDOW // 3, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW + 77, 3 * WINDOW]
SHAPES = [(8000, 1), (11025, 2), (16000, 3), (22050, 8), (32000, 2), (16000, 1), (8000, 2),
          (24000, 6), (16000, 2)]  # fmt: skip


@pytest.mark.parametrize(
    ("samples", "shape"), list(zip(LENGTHS, SHAPES, strict=True)), ids=lambda v: str(v)
)
def test_length_rate_and_channels_are_exact(
    model: Model, tmp_path: Path, samples: int, shape: tuple[int, int]
) -> None:
    rate, channels = shape
    count = max(round(samples * rate / 44100), 1)
    source = write(tmp_path / "a.wav", dull(4.0, rate, channels)[:, :count], rate)
    (result,) = render(model, [source], tmp_path / "out")
    found, found_rate = read(tmp_path / "out/a.wav")
    assert found_rate == 44100
    assert found.shape == (channels, round(count * 44100 / rate))
    assert np.isfinite(found).all()
    assert result.status == "ok"
    assert result.facts["out_samples"] == found.shape[1]


@pytest.mark.parametrize(("rate", "to"), [(16000, 48000), (44100, 22050), (96000, 44100),
                                          (192000, 8000), (8000, 96000)])  # fmt: skip
@pytest.mark.parametrize("generates", [False, True])
def test_any_rate_to_any_rate(
    model: Model, tmp_path: Path, rate: int, to: int, generates: bool
) -> None:
    source = write(tmp_path / "a.wav", dull(0.8, rate), rate)
    used = model if generates else None
    (result,) = render(used, [source], tmp_path / "out", replace(QUICK, rate=to))
    found, found_rate = read(tmp_path / "out/a.wav")
    assert (found_rate, found.shape[1]) == (to, output_length(int(0.8 * rate), rate, to))
    missing = generates and rate < min(to, 44100) * 0.9
    assert result.status == ("ok" if missing else "passed-through")


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", "16"), ("PCM_24", "24"),
                                               ("FLOAT", "float")])  # fmt: skip
@pytest.mark.parametrize("generates", [False, True])
def test_full_bandwidth_passes_through_bit_for_bit(
    model: Model, tmp_path: Path, subtype: str, bits: Bits, generates: bool
) -> None:
    source = write(tmp_path / "a.wav", dull(1.0, 44100, 3), 44100, subtype)
    (result,) = render(model if generates else None, [source], tmp_path / "out", bits=bits)
    assert result.status == "passed-through"
    assert result.reason.startswith("full bandwidth" if generates else "identity")
    np.testing.assert_array_equal(read(source)[0], read(tmp_path / "out/a.wav")[0])


@pytest.mark.parametrize("rate", [48_000, 96_000])
@pytest.mark.parametrize("generates", [False, True])
def test_a_higher_rate_stays_unless_another_is_asked_for(
    model: Model, tmp_path: Path, rate: int, generates: bool
) -> None:
    full = write(tmp_path / "full.wav", dull(0.8, rate), rate)
    poor = write(tmp_path / "poor.wav", resampled(dull(0.8, 16_000), 16_000, rate), rate)
    results = render(model if generates else None, [full, poor], tmp_path / "out")
    assert np.array_equal(read(tmp_path / "out/full.wav")[0], read(full)[0])
    assert read(tmp_path / "out/poor.wav")[1] == rate
    assert [result.facts["out_rate"] for result in results] == [rate, rate]
    assert results[1].status == ("ok" if generates else "passed-through")


def test_identity_is_the_resampler_and_no_more(tmp_path: Path) -> None:
    signal = dull(1.0, 16000)
    render(None, [write(tmp_path / "a.wav", signal, 16000)], tmp_path / "out")
    expected = resampled(signal, 16000, 44100)
    np.testing.assert_array_equal(read(tmp_path / "out/a.wav")[0], expected)


def test_the_own_band_is_kept_and_a_band_above_it_is_made(through: Callable[..., Any]) -> None:
    signal = dull(3.0, 16000)
    found = through(signal, 16000)
    own = resampled(signal, 16000, 44100)
    hertz = np.fft.rfftfreq(found.shape[1], 1 / 44100)
    kept = hertz < 6400  # the crossover begins at 7228 Hz
    shape = np.hanning(found.shape[1])
    change, whole = (np.abs(np.fft.rfft(shape * x)) for x in (found - own, own))
    assert change[:, kept].max() < 1e-4 * whole[:, kept].mean()
    power = power_spectrum(found)
    bins = np.arange(len(power)) * 44100 / 4096
    above = power[(bins > 8000) & (bins < 20000)]
    below = power[(bins > 5500) & (bins < 7000)]
    assert power_spectrum(own)[(bins > 8500) & (bins < 20000)].max() < below.mean() - 60
    assert above.mean() > below.mean() - 15


def test_no_step_and_no_line_at_the_cutoff(through: Callable[..., Any]) -> None:
    power = power_spectrum(through(dull(6.0, 16000, channels=1), 16000), 1024)
    bins = np.arange(len(power)) * 44100 / 1024
    near = power[(bins > 5800) & (bins < 9000)]
    trend = np.convolve(np.pad(near, 6, mode="edge"), np.ones(13) / 13, "valid")
    assert np.abs(near - trend).max() < 2.5
    steps = [power[(bins > low) & (bins < low + 500)].mean() for low in (6000, 6650, 7450, 8000)]
    assert np.abs(np.diff(steps)).max() < 4  # the network's own spectrum falls, too


def test_loudness_is_kept_at_any_level(through: Callable[..., Any]) -> None:
    signal = 0.3 * dull(2.0, 16000)
    loud = through(signal, 16000)
    assert abs(20 * np.log10(loud.std() / signal.std())) < 1.5
    for gain in (2.0, 0.1):  # amplified to the same level
        quiet = through(gain * signal, 16000) / gain
        np.testing.assert_allclose(quiet, loud, atol=2e-3)
    quiet = through(0.002 * signal, 16000) / 0.002  # -80 dBFS: not amplified all the way
    assert abs(20 * np.log10(quiet.std() / loud.std())) < 1.5


def test_gain_reaches_the_models_loudness_and_no_gain_means_none() -> None:
    from jatsr_model.upsampling.inspection import Meter
    from jatsr_model.upsampling.sound import Sound

    def sound(signal: NDArray[np.float32]) -> Sound:
        meter = Meter(16000, len(signal))
        meter.push(signal)
        return Sound(16000, len(signal), meter.result(), "")

    one = 0.03 * dull(2.0, 16000, 1)
    mono, twice = sound(one), sound(np.concatenate([one, one]))
    gain = gain_for(mono, -20.0).gain
    assert abs(mono.facts.loudness.lufs + 20 * np.log10(gain) - -20) < 1e-3
    # a network hears one channel at a time: how many there are does not matter
    assert abs(gain_for(twice, -20.0).gain / gain - 1) < 1e-6
    assert gain_for(mono, None).gain == 1.0
    assert gain_for(sound(np.zeros((2, 16000), np.float32)), -16.0).gain == 100.0


def test_mono_as_stereo_stays_mono(through: Callable[..., Any]) -> None:
    mono = 0.1 * dull(2.5, 16000, channels=1)
    for batch in (1, 3):
        found = through(np.concatenate([mono, mono]), 16000, batch_size=batch)
        np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[:1], 0.1 * through(10 * mono, 16000), atol=2e-3)


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_the_stereo_image_is_kept(through: Callable[..., Any], share: float) -> None:
    """Correlation of left and right, in the own band and in the generated one."""
    common, left, right = dull(4.0, 16000, channels=3)
    rest = np.sqrt(1 - share**2)
    signal = np.stack([share * common + rest * left, 0.4 * (share * common + rest * right)])
    found = np.fft.rfft(through(signal.astype(np.float32), 16000))
    hertz = np.fft.rfftfreq(2 * (found.shape[1] - 1), 1 / 44100)

    def correlation(low: float, high: float) -> tuple[float, float]:
        one, other = found[:, (hertz >= low) & (hertz < high)]
        powers = [np.vdot(x, x).real for x in (one, other)]
        return np.vdot(one, other).real / np.sqrt(np.prod(powers)), powers[1] / powers[0]

    below, level_below = correlation(1000, 7000)
    assert abs(below - share**2) < 0.1
    assert abs(10 * np.log10(level_below / 0.16)) < 1
    above, _ = correlation(8500, 20000)
    if share == 1.0:
        assert above > 0.5  # noise of its own for each channel would give 0


def test_silence_stays_digital_silence(through: Callable[..., Any]) -> None:
    signal = dull(3.0, 16000)
    signal[:, 12_000:30_000] = 0
    signal[1, 34_000:40_000] = 0  # in one channel only
    signal[:, 45_000:] = 0
    found = through(signal, 16000)
    margin = int(0.006 * 44100)
    for channel, start, stop in ((0, 12_000, 30_000), (1, 34_000, 40_000), (0, 45_000, 48_000)):
        first, last = (round(place * 44100 / 16000) for place in (start, stop))
        at_end = stop == 48_000
        inside = found[channel, first + margin : None if at_end else last - margin]
        assert inside.size > 1000
        assert not inside.any()
    assert found[0, round(36_000 * 44100 / 16000)] != 0


def test_a_silent_file_is_passed_through_as_such(model: Model, tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav", np.zeros((2, 9999), np.float32), 16000)
    (result,) = render(model, [source], tmp_path / "out", bits="16")
    assert (result.status, result.reason) == ("passed-through", "silent")
    assert not read(tmp_path / "out/a.wav")[0].any()


def test_near_silence_is_not_turned_into_noise(through: Callable[..., Any]) -> None:
    noise = 1e-4 * dull(2.0, 16000)  # -100 dBFS
    found = through(noise, 16000)
    assert found.std() < 2 * noise.std()


@pytest.mark.parametrize("bits", ["16", "24"])
def test_nothing_clips(model: Model, tmp_path: Path, bits: Bits) -> None:
    signal = np.clip(9 * dull(1.0, 16000), -1, 1)  # peaks everywhere
    (result,) = render(
        model, [write(tmp_path / "a.wav", signal, 16000)], tmp_path / "out", bits=bits
    )
    found = read(tmp_path / "out/a.wav")[0]
    full = np.abs(found) >= 1 - 2.0 ** (1 - int(bits))
    assert result.facts["limited_db"] < 0
    runs = full[:, 2:] & full[:, 1:-1] & full[:, :-2]  # a flat top
    assert runs.mean() < 1e-3


def _flux(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spectral flux: how much the logarithmic spectrum changes from one frame to the next."""
    return np.abs(np.diff(10 * np.log10(power + 1e-12), axis=0)).mean(axis=1)


def test_no_seam_where_windows_meet(through: Callable[..., Any]) -> None:
    """Energy and flux of the generated band at joints are like those elsewhere."""
    found = through(tilted(20.0, 3.0, rate=16000, channels=1, seed=5), 16000, steps=4)[0]
    size = 512
    frames = found[: len(found) // size * size].reshape(-1, size) * np.hanning(size)
    power = np.square(np.abs(np.fft.rfft(frames)))[:, int(8500 / 44100 * size) :]
    layout = layout_for(CROP, 1)
    windows = list(layout.windows(-(-len(found) // HOP)))
    at_joint = np.zeros(len(power), bool)
    for window in windows[1:]:
        at_joint[window.first + 1 : window.first + layout.span - 1] = True
    assert at_joint.sum() > 100
    energy = power.mean(axis=1)
    ratio = 10 * np.log10(energy[at_joint].mean() / energy[~at_joint].mean())
    assert abs(ratio) < 0.5
    flux, inside = _flux(power), at_joint[1:] & at_joint[:-1]
    spread = flux.std() / np.sqrt(inside.sum())
    assert abs(flux[inside].mean() - flux[~inside].mean()) < 5 * spread
    jumps = np.abs(np.diff(found))[: len(at_joint) * size].reshape(-1, size).max(axis=1)
    assert jumps[at_joint].max() < 1.2 * jumps[~at_joint].max()


def test_same_input_same_seed_same_bytes(model: Model, tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav", dull(1.5, 16000), 16000)
    for ending in (".wav", ".flac", ".ogg"):
        bits: Bits | None = None if ending == ".ogg" else "16"
        digests = set()
        for run in "xy":
            render(model, [source], tmp_path / run, bits=bits, ending=ending)
            digests.add(sha256_file(tmp_path / run / f"a{ending}"))
        assert len(digests) == 1
    one = read(tmp_path / "x/a.wav")[0]
    render(model, [source], tmp_path / "z", replace(QUICK, seed=1), bits="16")
    assert np.abs(read(tmp_path / "z/a.wav")[0] - one).max() > 0.01


def _album(folder: Path) -> list[Path]:
    lengths = [(1.1, 16000, 2), (0.2, 16000, 1), (2.9, 8000, 1), (0.31, 22050, 3), (0.9, 44100, 2)]
    return [
        write(folder / f"{k}.wav", dull(seconds, rate, channels, seed=k), rate)
        for k, (seconds, rate, channels) in enumerate(lengths)
    ]


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_a_file_does_not_depend_on_its_company(model: Model, tmp_path: Path, batch: int) -> None:
    """Nor on the size of batches: on a CPU to the last bit."""
    album = _album(tmp_path / "in")
    settings = replace(QUICK, batch_size=batch)
    together = render(model, album, tmp_path / "together", settings)
    assert [r.status for r in together] == ["ok"] * 4 + ["passed-through"]
    render(model, album[::-1], tmp_path / "reversed", settings)
    for source in album:
        render(model, [source], tmp_path / "alone", QUICK)
        ways = ("together", "reversed", "alone")
        assert len({(tmp_path / way / source.name).read_bytes() for way in ways}) == 1


def test_windows_in_one_call_of_the_network_differ_by_rounding(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU."""
    album = _album(tmp_path / "in")
    render(model, album, tmp_path / "alone")
    shapes = set()
    inner = Pool._sample

    def together(pool: Pool, slots: Any) -> torch.Tensor:
        shapes.add((len(slots), *{slot.request.low.shape[-1] == CROP for slot in slots}))
        return inner(pool, slots)

    init = Pool.__init__

    def on_gpu(pool: Pool, *arguments: Any) -> None:
        init(pool, *arguments)
        pool.together = True

    monkeypatch.setattr(Pool, "_sample", together)
    monkeypatch.setattr(Pool, "__init__", on_gpu)
    render(model, album, tmp_path / "together", replace(QUICK, batch_size=5))
    assert shapes == {(5, True), (5, False)}
    for source in album:
        one, five = (read(tmp_path / way / source.name)[0] for way in ("alone", "together"))
        np.testing.assert_allclose(one, five, atol=1e-4)


def test_a_file_does_not_depend_on_how_it_is_read(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "a.wav", dull(2.0, 16000), 16000)
    render(model, [source], tmp_path / "one")
    monkeypatch.setattr(decode, "BLOCK_FRAMES", 1237)
    render(model, [source], tmp_path / "two")
    assert (tmp_path / "one/a.wav").read_bytes() == (tmp_path / "two/a.wav").read_bytes()


def test_a_bad_file_fails_alone_and_leaves_nothing(model: Model, tmp_path: Path) -> None:
    album = _album(tmp_path / "in")
    data = album[2].read_bytes()
    album[2].write_bytes(data[: len(data) // 3])
    results = render(model, album, tmp_path / "out", replace(QUICK, batch_size=5))
    assert [r.status for r in results] == ["ok", "ok", "failed", "ok", "passed-through"]
    assert "expected" in results[2].reason
    assert results[2].hint
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.wav", "1.wav", "3.wav",
                                                                    "4.wav"]  # fmt: skip


def test_a_file_that_changes_meanwhile_fails(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jatsr_model.upsampling import render as module

    longer, shorter = (write(tmp_path / f"{s}.wav", dull(s, 16000), 16000) for s in (1.5, 0.5))
    monkeypatch.setattr(module, "open_audio", lambda _: decode.open_audio(shorter))
    (result,) = render(model, [longer], tmp_path / "out")
    assert result.status == "failed"
    assert "changed meanwhile" in result.hint
    assert not list((tmp_path / "out").iterdir())


def test_no_memory_stops_the_run_and_says_what_to_do(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(Pool, "_sample", full)
    source = write(tmp_path / "a.wav", dull(0.5, 16000), 16000)
    with pytest.raises(EnvironmentFailure, match="out of memory") as caught:
        render(model, [source], tmp_path / "out")
    assert "--batch-size" in caught.value.hint
    assert not list((tmp_path / "out").iterdir())


def test_memory_does_not_grow_with_length(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a track holds while it is read: its fifos, buffers and windows."""
    from jatsr_model.upsampling.track import Extended

    seen: dict[str, int] = {}
    drain = Extended.drain

    def watched(track: Extended) -> None:
        drain(track)
        held = track._own_band.available + track._requests._wave._held.shape[1]
        name = f"{track._samples}"
        seen[name] = max(seen.get(name, 0), held + 1_000_000 * len(track._pending))

    monkeypatch.setattr(Extended, "drain", watched)
    quick = Settings(steps=1)
    for seconds in (12, 48):
        source = write(tmp_path / f"{seconds}.wav", dull(seconds, 16000, 1), 16000)
        render(model, [source], tmp_path / "out", quick)
    short, long = (seen[str(seconds * 44100)] for seconds in (12, 48))
    assert long < 1.3 * short


def test_silence_does_not_queue_up_behind_a_batch(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jatsr_model.upsampling.track import Extended

    seen = [0]
    push = Pool.add

    def watched(pool: Pool, request: Any) -> None:
        assert request.noise.numel() == (0 if not len(request.low) else request.low[0].numel())
        push(pool, request)

    drain = Extended.drain

    def drained(track: Extended) -> None:
        seen[0] = max(seen[0], len(track._pending))
        drain(track)

    monkeypatch.setattr(Pool, "add", watched)
    monkeypatch.setattr(Extended, "drain", drained)
    signal = np.pad(dull(1.0, 16000, 1), ((0, 0), (0, 30 * 16000)))
    source = write(tmp_path / "a.wav", signal, 16000)
    for batch in (1, 4, 16):
        seen[0] = 0
        settings = Settings(steps=1, batch_size=batch)
        render(model, [source], tmp_path / f"{batch}", settings)
        assert 0 < seen[0] <= 2 * batch + 3
    assert len({(tmp_path / way / "a.wav").read_bytes() for way in ("1", "4", "16")}) == 1


@pytest.mark.parametrize("samples", [6, 18, 31])
@pytest.mark.parametrize("generates", [False, True])
def test_opus_has_the_length_at_its_own_rate(
    model: Model, tmp_path: Path, samples: int, generates: bool
) -> None:
    for rate in (48000, 16000):
        source = write(tmp_path / f"{rate}.wav", dull(1.0, rate, 1)[:, :samples], rate)
        used = model if generates else None
        (result,) = render(used, [source], tmp_path / "out", bits=None, ending=".opus")
        found, found_rate = read(tmp_path / f"out/{rate}.opus")
        assert (found_rate, found.shape[1]) == (48000, samples * 48000 // rate)
        facts = (result.facts["out_rate"], result.facts["out_samples"])
        assert facts == (48000, found.shape[1])


def test_a_rate_that_the_format_does_not_have_is_refused_at_once() -> None:
    for ending in (".ogg", ".flac"):
        with pytest.raises(ConfigError, match="--rate 768000"):
            Renderer(None, Settings(rate=768_000), output_format(Path(f"x{ending}")))


class _Casts(TorchDispatchMode):
    """Counts how often matrices of weights are cast."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.weights = {w.data_ptr() for w in model.network.parameters() if w.dim() > 1}
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> torch.Tensor:
        if func is torch.ops.aten._to_copy.default and args[0].data_ptr() in self.weights:
            self.count += 1
        found: torch.Tensor = func(*args, **(kwargs or {}))
        return found


def test_weights_are_cast_once_for_all_steps(model: Model, tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav", dull(0.3, 16000, 1), 16000)
    counts = []
    for steps in (1, 5):
        casts = _Casts(model)
        with casts:
            settings = Settings(steps=steps, precision="bf16")
            render(model, [source], tmp_path / "out", settings)
        counts.append(casts.count)
    assert counts[0] == counts[1] > 0


def test_tags_come_along_and_one_says_what_was_made_up(model: Model, tmp_path: Path) -> None:
    source = tmp_path / "a.flac"
    soundfile.write(source, dull(0.5, 16000).T, 16000)
    import mutagen.flac

    tagged = mutagen.flac.FLAC(source)
    tagged.update({"TITLE": ["Hören"], "ARTIST": ["a", "b"]})
    tagged.save()
    render(model, [source], tmp_path / "out", bits="16", ending=".flac")
    found = mutagen.flac.FLAC(tmp_path / "out/a.flac")
    assert (found["title"], found["artist"]) == (["Hören"], ["a", "b"])
    assert f"generated by mdct-xs ({model.digest[:12]}), seed 0" in found["upsampled"][0]
    render(None, [source], tmp_path / "plain", bits="16", ending=".flac")
    assert "upsampled" not in mutagen.flac.FLAC(tmp_path / "plain/a.flac")


@pytest.fixture
def conditions(monkeypatch: pytest.MonkeyPatch) -> list[Conditions]:
    """Of every window that is sampled from now on."""
    seen = []
    inner = Pool._conditions

    def watched(pool: Pool, slots: Any, low: torch.Tensor) -> Conditions:
        seen.append(inner(pool, slots, low))
        return seen[-1]

    monkeypatch.setattr(Pool, "_conditions", watched)
    return seen


def test_the_target_decides_and_conditions_are_as_in_training(
    model: Model, tmp_path: Path, conditions: list[Conditions]
) -> None:
    source = write(tmp_path / "a.wav", dull(0.6, 16000), 16000)
    render(model, [source], tmp_path / "out", replace(QUICK, target_hz=11025.0))
    render(model, [source], tmp_path / "out", replace(QUICK, target_hz=100.0))
    half = len(conditions) // 2
    bright, dim = (np.stack([g.rolloff[0].numpy() for g in part]) for part in
                   (conditions[:half], conditions[half:]))  # fmt: skip
    assert (bright[:, 0] == dim[:, 0]).all()
    assert (abs(bright[:, 0] * 22050 - 7000) < 1000).all()
    assert (bright[:, 1] == 0.5).all()
    assert (dim[:, 1] == dim[:, 0]).all()  # no darker than it is
    assert all(g.text is None and g.has_low is None for g in conditions)


@pytest.mark.parametrize(
    ("prediction", "dropout", "asked", "told"),
    [
        ("x", 0.5, None, 15_000), ("x", 0.5, 9000, 9000), ("envelope", 0.5, None, None),
        ("envelope", 0.5, 9000, 9000), ("envelope", 0.0, None, 15_000),
    ],
)  # fmt: skip
def test_where_no_brightness_is_asked_for_envelopes_are_told_none(
    model: Model, tmp_path: Path, conditions: list[Conditions],
    prediction: str, dropout: float, asked: float | None, told: float | None,
) -> None:  # fmt: skip
    origin = {"recipe": {"condition_dropout": dropout}}
    model = replace(model, card=replace(model.card, prediction=prediction, origin=origin))
    settings = replace(QUICK, target_hz=asked, steps=QUICK.steps if prediction == "x" else None)
    source = write(tmp_path / "a.wav", dull(0.6, 16000), 16000)
    render(model, [source], tmp_path / "out", settings)
    assert conditions
    assert model.told_hz(asked) == told
    for given in conditions:
        assert given.has_rolloff.tolist() == [[True, told is not None]]
        if told is not None:
            assert float(given.rolloff[0, 1]) == pytest.approx(told / 22_050)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"prompt": "piano"}, "takes no text"),
        ({"window_frames": 20}, "too short"),
        ({"guidance": -1.0}, "--cfg"),
        ({"grid": "round"}, "--grid"),
    ],
)
def test_settings_that_do_not_suit_the_model_are_refused(
    model: Model, changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        Renderer(model, replace(QUICK, **changes), output_format(Path("x.wav")))


def test_guidance_needs_a_model_that_knows_its_null(tmp_path: Path, model: Model) -> None:
    form = output_format(Path("x.wav"))
    Renderer(model, replace(QUICK, guidance=2.0), form)
    unknown = replace(model, card=replace(model.card, origin={}))
    Renderer(unknown, QUICK, form)
    with pytest.raises(ConfigError, match="met in 0"):
        Renderer(unknown, replace(QUICK, guidance=2.0), form)


@pytest.mark.parametrize("changes", [{"solver": "heun"}, {"solver": "midpoint"}, {"guidance": 2.0},
                                     {"grid": "linear-quadratic"}, {"precision": "bf16"},
                                     {"window_frames": 96}])  # fmt: skip
def test_every_way_of_sampling_works(through: Callable[..., Any], changes: dict[str, Any]) -> None:
    assert np.isfinite(through(dull(1.0, 16000), 16000, **changes)).all()


def test_a_folder_says_all_that_upsampling_needs(tmp_path: Path, model: Model) -> None:
    from jatsr_model.model_folder import ModelError, load_network, save_network

    assert (model.crop_frames, model.target_lufs, model.condition_dropout) == (CROP, -16.0, 0.1)
    network, card = load_network(random_model(tmp_path / "m"))
    save_network(tmp_path / "bare", network, replace(card, latents={}))
    with pytest.raises(ModelError, match="codec, scales, crop_frames"):
        load_model(tmp_path / "bare")
    save_network(
        tmp_path / "other", network,
        replace(card, latents={**card.latents, "codec": {**card.latents["codec"], "version": 9}}),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="version 9"):
        load_model(tmp_path / "other")
    with pytest.raises(ModelError):
        load_model(tmp_path / "nothing")


def test_loudness_that_was_left_alone_in_training_is_left_alone(
    tmp_path: Path, model: Model
) -> None:
    folder = random_model(tmp_path / "m", loudness=None)
    assert load_model(folder).target_lufs is None


class Words:
    """A text encoder whose states are a function of the length of the caption."""

    identity = "words"

    def __init__(self, place: str, device: Any, width: int) -> None:
        self.width = width

    def __call__(self, captions: list[str]) -> Embedded:
        tokens = max(map(len, captions))
        text = torch.linspace(-3, 3, tokens * self.width).reshape(1, tokens, self.width)
        return Embedded(text, torch.ones(1, tokens, dtype=torch.bool), torch.tensor([True]))


def test_a_prompt_is_heard_by_models_that_know_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt, "TextEncoder", Words)
    shape = {"text_dim": 256, "text_kv_heads": 1}
    model = load_model(random_model(tmp_path / "m", shape=shape, text_encoder="words"))
    source = write(tmp_path / "a.wav", dull(0.8, 16000), 16000)
    found = []
    for number, changes in enumerate(
        ({}, {"prompt": "piano"}, {"prompt": "a violin"},
         {"prompt": "piano", "guidance": 1.4, "text_guidance": 1.2})
    ):  # fmt: skip
        render(model, [source], tmp_path / f"{number}", replace(QUICK, **changes))
        found.append(read(tmp_path / f"{number}" / "a.wav")[0])
    for one, other in combinations(found, 2):
        assert np.abs(one - other).max() > 1e-3
    for trained, match in (("others", "not the one that the model"), ("", "without captions")):
        card = replace(model.card, latents={**model.card.latents, "text_encoder": trained})
        with pytest.raises(ConfigError, match=match):
            Renderer(
                replace(model, card=card),
                replace(QUICK, prompt="piano"),
                output_format(Path("x.wav")),
            )
    with pytest.raises(ConfigError, match="--prompt"):
        replace(QUICK, text_guidance=1.2)


@pytest.mark.slow
@pytest.mark.slow
def test_latents_of_the_descript_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an untrained codec of the real size and windows as short as can be."""
    from jatsr_model.upsampling import model as module

    monkeypatch.setattr(module, "_DAC_WINDOW", 40)
    model = load_model(random_model(tmp_path / "m", "xs"))
    assert model.decoder.normaliser.space == "projected"
    source = write(tmp_path / "a.wav", dull(0.8, 16000, 1), 16000)
    for way, batch in (("one", 1), ("two", 4)):
        settings = Settings(steps=1, window_frames=48, batch_size=batch)
        (result,) = render(model, [source], tmp_path / way, settings)
        assert result.status == "ok"
    assert read(tmp_path / "one/a.wav")[0].shape == (1, 35280)
    assert (tmp_path / "one/a.wav").read_bytes() == (tmp_path / "two/a.wav").read_bytes()
