"""Files as promised: whole or not at all, exact, not clipped, the same bytes each time."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sounds import cut, rounded, tilted

from jatsr_model.audio.decode import open_audio
from jatsr_model.upsampling import output_format as formats
from jatsr_model.upsampling.audio_out import AudioSpec, audio_writer
from jatsr_model.upsampling.metadata import Metadata, Picture
from jatsr_model.upsampling.output_format import output_format
from shards.errors import ConfigError, EnvironmentFailure, TrackError

KINDS = [("a.wav", "16"), ("a.wav", "24"), ("a.wav", "float"), ("a.flac", "16"), ("a.flac", "24"),
         ("a.ogg", None), ("a.opus", None)]  # fmt: skip
TAGS = Metadata({"TITLE": ("A",)}, (Picture(b"\x89PNG" + bytes(5000), "image/png"),))


def write(path, signal, bits=None, rate=44100, places=(), **more):
    path.parent.mkdir(exist_ok=True)
    form = output_format(path, bits)
    spec = AudioSpec(form, form.file_rate(rate), len(signal), signal.shape[1], **more)
    with audio_writer(path, spec) as writer:
        for block in cut(signal, list(places)):
            writer.write(block)
    return writer


def read(path):
    with open_audio(path) as audio:
        return np.concatenate(list(audio.blocks())).T, audio.format


@pytest.mark.parametrize(("name", "bits"), KINDS)
@given(
    samples=st.integers(1, 40_000),
    channels=st.integers(1, 8),
    rate=st.sampled_from([8000, 44100, 48000]),
)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_length_channels_and_rate(tmp_path, name, bits, samples, channels, rate):
    signal = 0.3 * tilted(1, 3, channels=channels)[:, :1].repeat(samples, 1)
    write(tmp_path / name, signal, bits, rate)
    found, what = read(tmp_path / name)
    if name == "a.opus":
        rate = 48000
    assert found.shape == (channels, samples)
    assert what.rate == rate
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(("name", "bits"), KINDS)
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 6, 7, 8])
def test_channels_stay_in_order(tmp_path, name, bits, channels):
    time = np.arange(44100) / 44100
    pitches = 300 * 2.0 ** (np.arange(channels) / 2)
    pitches[3:4] = 60  # lossy codecs low-pass the channel of low-frequency effects
    signal = 0.2 * np.sin(2 * np.pi * pitches[:, None] * time)
    write(tmp_path / name, signal.astype(np.float32), bits)
    found, what = read(tmp_path / name)
    spectra = np.abs(np.fft.rfft(found[:, : what.rate], axis=1))
    np.testing.assert_allclose(spectra.argmax(axis=1), pitches, atol=1)


@pytest.mark.parametrize(("channels", "mask"), [(4, 0x33), (5, 0x37), (6, 0x3F), (8, 0x63F)])
@pytest.mark.parametrize("bits", ["16", "float"])
def test_speakers_of_wav_files_are_named(tmp_path, channels, mask, bits):
    write(tmp_path / "a.wav", tilted(0.1, 3, channels=channels), bits)
    data = (tmp_path / "a.wav").read_bytes()
    assert int.from_bytes(data[data.index(b"fmt ") + 28 :][:4], "little") == mask


@pytest.mark.parametrize(("name", "bits"), KINDS)
def test_same_bytes_however_the_signal_is_cut(tmp_path, name, bits):
    signal = 4 * tilted(3, 3, channels=2)  # beyond full scale: the limiter works, too
    write(tmp_path / "a" / name, signal, bits, metadata=TAGS)
    write(tmp_path / "b" / name, signal, bits, metadata=TAGS, places=[1, 2, 20_000, 100_000])
    whole = (tmp_path / "a" / name).read_bytes()
    assert (tmp_path / "b" / name).read_bytes() == whole
    assert b"PEAK" not in whole or whole[whole.index(b"PEAK") + 12 :][:4] == bytes(4)  # its time
    if name in ("a.ogg", "a.opus"):
        assert {int.from_bytes(page[14:18], "little") for page in pages(whole)} == {1}


def pages(data):
    place = 0
    while place < len(data):
        sizes = data[place + 27 : place + 27 + data[place + 26]]
        size = 27 + len(sizes) + sum(sizes)
        assert data[place : place + 4] == b"OggS"
        yield data[place : place + size]
        place += size


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_the_seed_decides_the_dither(tmp_path, name):
    signal = tilted(0.2, 3)
    for seed in (0, 1):
        write(tmp_path / f"{seed}{name}", signal, "16", seed=seed)
    zero, one = (read(tmp_path / f"{seed}{name}")[0] for seed in (0, 1))
    assert 0 < np.abs(zero - one).max() <= 3 / 32768
    assert np.abs(zero - signal).max() < 2 / 32768


@pytest.mark.parametrize(("name", "bits"), [kind for kind in KINDS if kind[1]])
def test_what_fits_comes_out_bit_for_bit(tmp_path, name, bits):
    """A file of 16 bits that is passed through; peaks at full scale and silence are in it."""
    signal = rounded(8 * tilted(1, 3, channels=2))
    signal[:, 9000:12_000] = 0
    assert signal.min() == -1
    write(tmp_path / name, signal, bits)
    np.testing.assert_array_equal(read(tmp_path / name)[0], signal)


def test_float_keeps_what_exceeds_full_scale(tmp_path):
    signal = 20 * tilted(0.5, 3)
    writer = write(tmp_path / "a.wav", signal, "float")
    np.testing.assert_array_equal(read(tmp_path / "a.wav")[0], signal)
    assert writer.limited_samples == 0


@pytest.mark.parametrize(("name", "bits"), [kind for kind in KINDS if kind[1] != "float"])
def test_peaks_are_lowered_and_told(tmp_path, name, bits):
    signal = 0.5 * np.sin(np.arange(60_000) / 20, dtype=np.float32)[None]
    signal[0, 30_000:30_100] *= 3
    writer = write(tmp_path / name, signal, bits)
    assert 100 < writer.limited_samples < 2000
    assert writer.limited_db == pytest.approx(-20 * np.log10(1.5), abs=0.5)
    found = read(tmp_path / name)[0]
    assert np.abs(found).max() < (1 if bits else 1.1)  # lossy codecs ring at the steps
    if bits:  # away from the peak nothing changed but the rounding
        assert np.abs(found - signal)[0, :29_000].max() < 2 / 32768


def test_large_wav_files_are_rf64(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "_LARGEST_WAV", 50_000)
    for samples, kind in ((8_333, b"RIFF"), (8_334, b"RF64")):
        signal = rounded(tilted(1, 3, channels=2))[:, :samples]
        write(tmp_path / "a.wav", signal, "24", metadata=TAGS)
        data = (tmp_path / "a.wav").read_bytes()
        assert data[:4] == kind
        if kind == b"RF64":
            assert int.from_bytes(data[20:28], "little") == len(data) - 8
        assert data.index(b"id3 ") > 6 * samples
        np.testing.assert_array_equal(read(tmp_path / "a.wav")[0], signal)


@pytest.mark.parametrize(("name", "bits"), KINDS)
@pytest.mark.parametrize("wrong", [-1, 1, 5000])
def test_another_length_than_announced_is_refused(tmp_path, name, bits, wrong):
    signal = tilted(0.3, 3)
    path = tmp_path / name
    form = output_format(path, bits)
    spec = AudioSpec(form, form.file_rate(44100), 1, signal.shape[1] + wrong)
    with pytest.raises(ValueError, match="announced"), audio_writer(path, spec) as writer:
        writer.write(signal)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("name", "bits"), KINDS)
def test_an_error_leaves_the_old_file(tmp_path, name, bits):
    (tmp_path / name).write_bytes(b"old")
    form = output_format(tmp_path / name, bits)
    spec = AudioSpec(form, form.file_rate(44100), 1, 50_000)

    def fail():
        with audio_writer(tmp_path / name, spec) as writer:
            writer.write(tilted(1, 3))
            raise OSError("of the caller")

    with pytest.raises(OSError, match="of the caller"):
        fail()
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == b"old"


@pytest.mark.parametrize(("name", "bits"), KINDS)
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, name, bits):
    signal = tilted(4, 0, channels=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(EnvironmentFailure, match=name):
            write(tmp_path / name, signal, bits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    spec = AudioSpec(output_format(Path("a.wav")), 44100, 1, 1)
    with (
        pytest.raises(EnvironmentFailure, match="OUT"),
        audio_writer(tmp_path / "file" / "a.wav", spec),
    ):
        pytest.fail("nothing was opened")


def test_names_and_bits_that_cannot_be():
    assert output_format(Path("A.FLAC")).bits == 24
    assert output_format(Path("a.b.WAV"), "float").bits is None
    for name, bits, said in (
        ("a.mp3", None, r"a\.mp3.*\.wav"),
        ("a", None, "no ending"),
        ("a.flac", "float", "--bits float"),
        ("a.ogg", "16", "--bits 16"),
        ("a.opus", "float", "--bits float"),
    ):
        with pytest.raises(ConfigError, match=said):
            output_format(Path(name), bits)


@pytest.mark.parametrize(
    ("name", "most", "beyond"),
    [("a.flac", 655_350, 655_360), ("a.flac", 70_010, 70_011), ("a.ogg", 192_000, 192_001),
     ("a.wav", 768_000, None), ("a.opus", 48_000, None)],
)  # fmt: skip
def test_rates_that_a_format_does_not_have_are_refused(tmp_path, name, most, beyond):
    form = output_format(Path(name))
    write(tmp_path / name, tilted(0.1, 3), None, most)
    assert sf.info(tmp_path / name).samplerate == most
    if beyond:
        with pytest.raises(ConfigError, match=f"--rate {beyond}") as caught:
            form.file_rate(beyond)
        assert caught.value.hint


def test_a_name_may_be_as_long_as_the_disk_allows(tmp_path):
    longest = "ü" * 125 + "x.wav"  # 255 bytes
    write(tmp_path / longest, tilted(0.1, 3))
    assert os.listdir(tmp_path) == [longest]
    with pytest.raises(TrackError, match="too long"):
        write(tmp_path / f"x{longest}", tilted(0.1, 3))
    assert os.listdir(tmp_path) == [longest]


def test_other_readers_agree(tmp_path):
    signal = rounded(tilted(0.5, 3, channels=2))
    for name in ("a.wav", "a.flac"):
        write(tmp_path / name, signal, "24", metadata=TAGS)
        found, rate = sf.read(tmp_path / name, dtype="float32")
        assert rate == 44100
        np.testing.assert_array_equal(found.T, signal)
