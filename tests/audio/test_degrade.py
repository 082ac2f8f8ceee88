from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stages.degrade import degradation_blocks, draw, recreate
from pipeline.stages.filters import TYPES
from pipeline.stages.variants import LowRes, parse_lr
from shards.errors import ConfigError

RATE = 44100
SPECS = ["sinc:16000", "sinc:4000", "filters:2000-16000", "mp3:64", "opus:64", "vorbis:64",
         "sinc:4000-32000", "lossy:24-96"]  # fmt: skip


def noise(samples: int, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(samples)
    return rng.uniform(-0.5, 0.5, (channels, samples)).astype(np.float32)


def stack(
    specs: list[LowRes], signal: np.ndarray, scratch: Path, cuts: list[int], track: str = "t"
) -> np.ndarray:
    def hr() -> Iterator[np.ndarray]:
        return iter(np.split(signal, sorted(cuts), axis=1))

    degradations = [draw(spec, track, variant) for variant, spec in enumerate(specs)]
    blocks = list(degradation_blocks(hr, degradations, scratch))
    assert all(block.shape[-1] for block in blocks)
    if not blocks:
        return np.zeros((1 + len(specs), len(signal), 0), np.float32)
    return np.concatenate(blocks, axis=2)


@pytest.mark.parametrize("samples", [0, 1, 2, 100, 1151, 3000, 44_101, 200_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_all_variants_are_as_long_as_the_original(
    tmp_path: Path, samples: int, channels: int
) -> None:
    signal = noise(samples, channels)
    out = stack([parse_lr(spec) for spec in SPECS], signal, tmp_path, [])
    assert out.shape == (1 + len(SPECS), channels, samples)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out[0], signal)
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.integers(0, 60_000), max_size=6), st.integers(0, 60_000))
@settings(max_examples=10)
def test_cutting_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], samples: int
) -> None:
    scratch = tmp_path_factory.mktemp("scratch")
    specs = [parse_lr(spec) for spec in ("sinc:16000", "filters:2000-16000", "filters:2000-4000")]
    signal = noise(60_000, 2)[:, :samples]
    whole = stack(specs, signal, scratch, [])
    np.testing.assert_array_equal(stack(specs, signal, scratch, cuts), whole)


@pytest.mark.parametrize("track", [f"track{i}" for i in range(12)])
@pytest.mark.parametrize("spec", ["sinc:16000", "sinc:44099", "filters:2000-16000"])
@pytest.mark.parametrize("samples", [3000, 44_100])
def test_the_copy_is_on_time(tmp_path: Path, spec: str, track: str, samples: int) -> None:
    time = np.arange(samples) / RATE
    chirp = np.sin(2 * np.pi * (200 * time + 600 * time**2)) * np.hanning(samples)
    original, copy = stack(
        [parse_lr(spec)], chirp[np.newaxis].astype(np.float32), tmp_path, [], track
    )[:, 0]
    products = np.correlate(copy, original[100:-100], mode="valid")
    assert int(products.argmax()) == 100
    similarity = (copy * original).sum() / np.linalg.norm(copy) / np.linalg.norm(original)
    assert similarity > 0.98


@pytest.mark.parametrize(
    ("spec", "kept", "gone"), [("sinc:16000", 6500, 8100), ("sinc:4000", 1600, 2030)]
)
def test_sinc_keeps_below_and_removes_above(
    tmp_path: Path, spec: str, kept: float, gone: float
) -> None:
    out = stack([parse_lr(spec)], noise(200_000), tmp_path, [])[:, 0]
    spectra = np.abs(np.fft.rfft(out * np.hanning(200_000)))
    frequency = np.fft.rfftfreq(200_000, 1 / RATE)
    level = [np.linalg.norm(s[frequency > gone]) for s in spectra]
    assert level[1] < 1e-5 * level[0]
    low = frequency < kept
    assert np.linalg.norm(spectra[1][low] - spectra[0][low]) < 1e-3 * np.linalg.norm(
        spectra[0][low]
    )


@pytest.mark.parametrize("track", [f"track{i}" for i in range(20)])
def test_filters_remove_what_lies_well_above_the_cutoff(tmp_path: Path, track: str) -> None:
    spec = parse_lr("filters:2000-16000")
    params = draw(spec, track, 0).params
    out = stack([spec], noise(200_000), tmp_path, [], track)[:, 0]
    spectra = np.abs(np.fft.rfft(out * np.hanning(200_000)))
    high = np.fft.rfftfreq(200_000, 1 / RATE) > 1.05 * params["cutoff"]
    assert np.linalg.norm(spectra[1][high]) < 1e-5 * np.linalg.norm(spectra[0][high])


def test_draws_are_uniform_and_within_range() -> None:
    spec = parse_lr("filters:2000-16000")
    drawn = [draw(spec, f"id{i}", 0).params for i in range(4000)]
    for key, expected in {
        "type": set(TYPES),
        "order": set(range(2, 11)),
        "cutoff": set(range(2000, 16001, 100)),
    }.items():
        counts = Counter(params[key] for params in drawn)
        assert set(counts) == expected
        mean = len(drawn) / len(expected)
        chi_square = sum((count - mean) ** 2 / mean for count in counts.values())
        freedom = len(expected) - 1
        assert chi_square < freedom + 4 * np.sqrt(2 * freedom)


def test_rates_and_codecs_are_drawn_uniformly_too() -> None:
    rates = [draw(parse_lr("sinc:4000-32000"), f"id{i}", 0).params for i in range(4000)]
    counts = Counter(params["rate"] for params in rates)
    assert set(counts) == set(range(4000, 32_001, 100))
    lossy = [draw(parse_lr("lossy:24-96"), f"id{i}", 0).params for i in range(4000)]
    codecs = Counter(params["codec"] for params in lossy)
    assert set(codecs) == {"mp3", "opus", "vorbis"}
    for drawn, ways in ((counts, 281), (codecs, 3)):
        mean = 4000 / ways
        chi_square = sum((count - mean) ** 2 / mean for count in drawn.values())
        assert chi_square < ways - 1 + 4 * np.sqrt(2 * (ways - 1))
    found = {codec: {p["kbps"] for p in lossy if p["codec"] == codec} for codec in codecs}
    assert found["mp3"] == {32, 40, 48, 56, 64, 80, 96}
    assert found["opus"] == set(range(24, 97))
    assert found["vorbis"] == set(range(48, 97))
    assert draw(parse_lr("lossy:6-20"), "a", 0).params["codec"] == "opus"  # no other goes so low
    fixed = parse_lr(f"{lossy[0]['codec']}:{lossy[0]['kbps']}")
    assert draw(fixed, "id0", 0).params == lossy[0]


def test_draws_depend_on_track_variant_and_range_only() -> None:
    spec = parse_lr("filters:2000-16000")
    assert draw(spec, "a", 0).params == draw(parse_lr(" FILTERS:2000-16000"), "a", 0).params
    drawn = {
        json.dumps(draw(parse_lr(text), track, variant).params, sort_keys=True)
        for text in ("filters:2000-16000", "filters:2100-16000")
        for track in ("a", "b", "c")
        for variant in range(4)
    }
    assert len(drawn) > 20
    code = (
        "from pipeline.stages.degrade import draw; import json;"
        "from pipeline.stages.variants import parse_lr;"
        "print(json.dumps(draw(parse_lr('filters:2000-16000'), 'a', 0).params))"
    )
    for seed in ("1", "2"):  # of Python's own hash
        found = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            check=True,
        )
        assert json.loads(found.stdout) == draw(spec, "a", 0).params


@pytest.mark.parametrize("text", SPECS)
def test_recorded_params_recreate_the_degradation(tmp_path: Path, text: str) -> None:
    signal = noise(30_000)
    first = draw(parse_lr(text), "track", 3)
    again = recreate(json.loads(json.dumps(first.params)))
    outputs = [
        np.concatenate(
            [block[1] for block in degradation_blocks(lambda: iter([signal]), [one], tmp_path)], 1
        )
        for one in (first, again)
    ]
    np.testing.assert_array_equal(*outputs)
    assert again.params == first.params
    assert first.version == parse_lr(text).version


@pytest.mark.parametrize(
    "text",
    [
        *SPECS,
        "sinc:2000",
        "sinc:44099",
        "filters:1000-22000",
        "filters:4000-4000",
        "mp3:320",
        "opus:6",
        "vorbis:240",
    ],
)
def test_canonical_form(text: str) -> None:
    spec = parse_lr(text)
    assert str(spec) == text
    assert parse_lr(str(spec)) == spec
    assert str(parse_lr(f" {text.upper()} ")) == text
    assert spec.is_random == ("-" in text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "known form"),
        ("sinc", "known form"),
        ("sinc:", "known form"),
        ("sinc:16k", "known form"),
        ("sinc:-16000", "known form"),
        ("filters:2000", "known form"),
        ("aac:64", "known form"),
        ("mp3:64:2", "known form"),
        ("sinc:1999", "2000 to 44099 Hz"),
        ("sinc:44100", "2000 to 44099 Hz"),
        ("filters:900-8000", "1000 to 22000 Hz"),
        ("filters:2000-22050", "1000 to 22000 Hz"),
        ("filters:8000-2000", "LOW not above HIGH"),
        ("filters:2001-2099", "a multiple of 100 Hz"),
        ("sinc:1000-4000", "2000 to 44099 Hz"),
        ("sinc:4000-2000", "LOW not above HIGH"),
        ("sinc:2001-2099", "a multiple of 100 Hz"),
        ("lossy:64", "known form"),
        ("lossy:96-32", "LOW not above HIGH"),
        ("lossy:1-5", "a bit rate of a codec"),
        ("mp3:32-64", "known form"),
        ("mp3:63", "one of 32, 40"),
        ("opus:5", "6 to 256 kbit/s"),
        ("vorbis:47", "48 to 240 kbit/s"),
    ],
)
def test_wrong_values_name_the_flag(text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        parse_lr(text)
    assert "--lr" in caught.value.message
    assert "sinc:RATE" in caught.value.hint


def test_memory_is_bounded(tmp_path: Path) -> None:
    """No more than the latency is held: the first blocks come out long before the end."""
    pulled = 0

    def hr() -> Iterator[np.ndarray]:
        nonlocal pulled
        for _ in range(60):
            pulled += RATE
            yield noise(RATE)

    drawn = [draw(parse_lr("filters:2000-16000"), "t", v) for v in range(3)]
    emitted = 0
    for block in degradation_blocks(hr, drawn, tmp_path):
        emitted += block.shape[-1]
        assert pulled - emitted <= 4 * RATE or pulled == 60 * RATE
    assert emitted == 60 * RATE


def test_leaving_early_removes_temporary_files(tmp_path: Path) -> None:
    lossy = draw(parse_lr("mp3:64"), "t", 0)
    blocks = degradation_blocks(lambda: iter([noise(50_000)] * 3), [lossy], tmp_path)
    next(blocks)
    blocks.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="prepared"):
        lossy.push(noise(10))
