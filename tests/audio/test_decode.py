from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from jatsr_model.audio.decode import BLOCK_FRAMES, AudioFormat, open_audio, probe_decoders

av = pytest.importorskip("av")


def decode(path: Path) -> tuple[AudioFormat, np.ndarray]:
    with open_audio(path) as audio:
        blocks = list(audio.blocks())
        assert all(len(block) == BLOCK_FRAMES for block in blocks[:-1])
        assert 0 < len(blocks[-1]) <= BLOCK_FRAMES
        assert all(block.dtype == np.float32 for block in blocks)
        return audio.format, np.concatenate(blocks)


def sound(seconds: float, channels: int, rate: int) -> np.ndarray:
    """Decaying tones, a different one per channel."""
    time = np.arange(round(seconds * rate)) / rate
    tones = [np.sin(2 * np.pi * 110 * (c + 2) * time) for c in range(channels)]
    return (0.4 * np.stack(tones, 1) * np.exp(-time[:, np.newaxis] % 0.5)).astype(np.float32)


def vbr_mp3(path: Path, seconds: float = 12.0) -> np.ndarray:
    """Loud, then quiet: frames at the start are much larger than the others."""
    rng = np.random.default_rng(0)
    level = np.where(np.arange(round(seconds * 44100)) < 2 * 44100, 0.4, 1e-4)
    signal = (rng.standard_normal((len(level), 1)) * 0.3 * level[:, np.newaxis]).astype(np.float32)
    sf.write(path, signal, 44100, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5)
    return signal


def without_tag(data: bytes) -> bytes:
    """Drop the first frame of an MP3, which holds the length tag."""
    rates = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    return data[144_000 * rates[data[2] >> 4] // 44100 + (data[2] >> 1 & 1) :]


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 96000, 192000])
@pytest.mark.parametrize("channels", [1, 2, 6, 8])
@pytest.mark.parametrize(
    ("container", "subtype", "step"),
    [
        ("WAV", "PCM_U8", 1 / 127),
        ("WAV", "PCM_16", 2**-15),
        ("WAV", "PCM_24", 2**-23),
        ("WAV", "PCM_32", 1e-7),
        ("WAV", "FLOAT", 0),
        ("WAV", "DOUBLE", 1e-9),
        ("FLAC", "PCM_16", 2**-15),
        ("AIFF", "PCM_24", 2**-23),
    ],
)
def test_lossless_files_come_back(
    tmp_path: Path, container: str, subtype: str, step: float, channels: int, rate: int
) -> None:
    path = tmp_path / "a.bin"  # the name says nothing
    signal = sound(0.1, channels, rate)
    sf.write(path, signal, rate, subtype=subtype, format=container)
    found, decoded = decode(path)
    assert (found.rate, found.channels, found.decoder) == (rate, channels, "soundfile")
    assert found.header_frames == len(signal)
    np.testing.assert_allclose(decoded, signal, atol=step)


@pytest.mark.parametrize("frames", [1, BLOCK_FRAMES - 1, BLOCK_FRAMES, BLOCK_FRAMES + 1, 200_000])
def test_blocks_are_cut_exactly(tmp_path: Path, frames: int) -> None:
    path = tmp_path / "a.flac"
    signal = (np.arange(2 * frames).reshape(frames, 2) % 65536 - 32768).astype(np.int16)
    sf.write(path, signal, 44100, subtype="PCM_16")
    np.testing.assert_array_equal(decode(path)[1] * 32768, signal)


@pytest.mark.parametrize(
    ("container", "subtype", "rate"),
    [("OGG", "VORBIS", 44100), ("OGG", "OPUS", 48000), ("MP3", "MPEG_LAYER_III", 44100)],
)
def test_lossy_files_come_back_under_any_name(
    tmp_path: Path, container: str, subtype: str, rate: int
) -> None:
    path = tmp_path / "mislabelled.wav"
    signal = sound(3, 2, rate)
    sf.write(path, signal, rate, subtype=subtype, format=container)
    found, decoded = decode(path)
    assert found.subtype == subtype
    assert decoded.shape == signal.shape
    assert np.linalg.norm(decoded - signal) < 0.1 * np.linalg.norm(signal)


def test_mp3_in_blocks_equals_mp3_at_once(tmp_path: Path) -> None:
    """python-soundfile's own block reads differ by up to 0.1: it seeks after every read."""
    path = tmp_path / "a.mp3"
    vbr_mp3(path)
    at_once, _ = sf.read(path, dtype="float32", always_2d=True)
    np.testing.assert_array_equal(decode(path)[1], at_once)


@pytest.mark.parametrize("picture_bytes", [0, 300_000])
def test_mp3_without_length_tag_is_decoded_to_the_end(tmp_path: Path, picture_bytes: int) -> None:
    path = tmp_path / "a.mp3"
    signal = vbr_mp3(path)
    with_tag = decode(path)[1]
    size = picture_bytes
    tag = b"ID3\x04\x00\x00" + bytes(
        [size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127]
    )
    bare = without_tag(path.read_bytes())
    path.write_bytes((tag + bytes(size) if size else b"") + bare)
    if not size:  # what libsndfile believes of the file
        assert sf.info(path).frames < 0.8 * len(signal)
    found, decoded = decode(path)
    assert found.header_frames is None
    assert found.decoder == "soundfile"
    # Without the tag the codec's own delay stays in front.
    assert len(signal) <= len(decoded) <= len(signal) + 4 * 1152
    np.testing.assert_allclose(decoded[1105:][: len(signal)], with_tag, atol=1e-5)


@pytest.mark.parametrize("placeholder", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x00\xf0\xff\x7f"])
def test_wav_from_a_stream_is_decoded_to_the_end(tmp_path: Path, placeholder: bytes) -> None:
    path = tmp_path / "a.wav"
    signal = sound(5, 2, 44100)
    sf.write(path, signal, 44100, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = placeholder
    path.write_bytes(data)
    found, decoded = decode(path)
    assert found.header_frames is None
    np.testing.assert_allclose(decoded, signal, atol=2**-15)


def test_wav_with_chunks_after_the_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    signal = sound(1, 1, 44100)
    sf.write(path, signal, 44100, subtype="PCM_16")
    path.write_bytes(path.read_bytes() + b"LIST" + (4000).to_bytes(4, "little") + bytes(4000))
    found, decoded = decode(path)
    assert found.header_frames == len(decoded) == len(signal)


@pytest.mark.parametrize(("layout", "channels"), [("3.0", 3), ("quad", 4), ("5.1", 6), ("7.1", 8)])
@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_channels_come_in_wav_order(
    tmp_path: Path, subtype: str, layout: str, channels: int
) -> None:
    """FFmpeg knows the order of both; it must find the same tone in the same channel."""
    path = tmp_path / "a.ogg"
    time = np.arange(48000) / 48000
    tones = np.stack([np.sin(2 * np.pi * (40 + 10 * c) * time) for c in range(channels)], 1)
    sf.write(path, 0.2 * tones, 48000, subtype=subtype, format="OGG")
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        assert frames[0].layout.name == layout
        packer = av.AudioResampler(format="flt")  # 8 planes crash PyAV
        parts = [part.to_ndarray() for frame in frames for part in packer.resample(frame)]
    expected = np.concatenate(parts, axis=1).reshape(-1, channels)[10_000:40_000].T
    decoded = decode(path)[1][10_000:40_000].T
    pitches = [np.abs(np.fft.rfft(rows)).argmax(axis=1) for rows in (decoded, expected)]
    np.testing.assert_array_equal(*pitches)
    assert len(set(pitches[0])) == channels


def write_aac(path: Path, signal: np.ndarray, rate: int, **options: str) -> None:
    with av.open(str(path), "w", format="mp4", options=options) as container:
        stream = container.add_stream("aac", rate=rate, layout="stereo", bit_rate=192_000)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(signal.T), format="fltp", layout="stereo"
        )
        frame.sample_rate, frame.pts = rate, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_m4a_comes_back_through_pyav(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.m4a"
    signal = sound(4, 2, rate)
    write_aac(path, signal, rate)
    found, decoded = decode(path)
    assert (found.decoder, found.subtype) == ("pyav", "aac")
    assert (found.rate, found.channels) == (rate, 2)
    assert found.header_frames is not None
    assert abs(len(decoded) - len(signal)) <= 2048
    error = decoded[: len(signal)] - signal
    assert np.linalg.norm(error) < 0.1 * np.linalg.norm(signal)


@pytest.mark.parametrize("codec", ["alac", "pcm_s16be", "pcm_u8"])
def test_pyav_integer_samples_have_full_scale_one(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "a.mka"  # soundfile knows no Matroska
    signal = sound(1, 2, 44100)
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=44100, layout="stereo")
        resampler = av.AudioResampler(
            stream.format, "stereo", 44100, frame_size=stream.frame_size or None
        )
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(signal.T), format="fltp", layout="stereo"
        )
        frame.sample_rate = 44100
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    found, decoded = decode(path)
    assert (found.decoder, found.subtype, found.header_frames) == ("pyav", codec, None)
    np.testing.assert_allclose(decoded, signal, atol=2 / 256 if codec == "pcm_u8" else 1e-4)


def test_probe_decodes_everything_here() -> None:
    assert all(verdict is True for verdict in probe_decoders().values())


def test_probe_reports_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_silence(file: io.BytesIO, data: np.ndarray, rate: int, **options: str) -> None:
        if options["subtype"] == "OPUS":
            raise sf.LibsndfileError(1, "no Opus: ")
        write(file, 0 * data, rate, **options)

    write = sf.write
    monkeypatch.setattr(sf, "write", write_silence)
    monkeypatch.setattr("jatsr_model.audio.decode_probe.av_installed", lambda: False)
    found = probe_decoders()
    assert "no Opus" in str(found["Opus"])
    assert "differ" in str(found["FLAC"])
    assert "jatsr[av]" in str(found["AAC (m4a)"])
