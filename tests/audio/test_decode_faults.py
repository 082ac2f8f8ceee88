from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from jatsr_model.audio.decode import open_audio
from shards.errors import TrackError

RATE = 44100


def read(path: Path) -> int:
    with open_audio(path) as audio:
        return sum(len(block) for block in audio.blocks())


def noise(seconds: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(-0.5, 0.5, (round(seconds * RATE), 1)).astype(np.float32)


def fault(path: Path, pattern: str) -> TrackError:
    with pytest.raises(TrackError, match=pattern) as caught:
        read(path)
    assert caught.value.stage == "decode"
    assert caught.value.hint
    assert path.name in caught.value.message
    return caught.value


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.touch()
    fault(path, r"empty file \(0 bytes\)")


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("WAV", "PCM_16"), ("AIFF", "PCM_16"), ("OGG", "VORBIS")],
)
def test_header_without_samples(tmp_path: Path, container: str, subtype: str) -> None:
    path = tmp_path / "a.bin"
    sf.write(path, np.zeros((0, 1), np.float32), RATE, subtype=subtype, format=container)
    fault(path, "no samples")


def test_empty_wav_followed_by_other_chunks(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, np.zeros((0, 1), np.float32), RATE, subtype="PCM_16")
    path.write_bytes(path.read_bytes()[:44] + b"LIST" + (400).to_bytes(4, "little") + bytes(400))
    fault(path, "no samples")


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAVEX", "PCM_24"),
        ("WAV", "FLOAT"),
        ("WAV", "IMA_ADPCM"),
        ("RF64", "PCM_16"),
        ("AIFF", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_truncated_file_says_how_much_is_missing(
    tmp_path: Path, container: str, subtype: str
) -> None:
    path = tmp_path / "a.bin"
    signal = noise(20)
    sf.write(path, signal, RATE, subtype=subtype, format=container)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    promised = r"88[0-9]{4}"  # about 882000; ADPCM fills its last block
    fault(path, rf"expected {promised} frames")


@pytest.mark.parametrize("container", ["WAV", "AIFF"])
@pytest.mark.parametrize(
    ("seconds", "missing", "fails"),
    [(10, 0.4, False), (10, 0.6, True), (100, 0.9, False), (100, 1.1, True)],
)
def test_a_little_short_is_tolerated(
    tmp_path: Path, container: str, seconds: int, missing: float, fails: bool
) -> None:
    path = tmp_path / "a.bin"
    sf.write(path, noise(seconds), RATE, subtype="PCM_16", format=container)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 2 * round(missing * RATE)])
    if fails:
        fault(path, "as the header says")
    else:
        assert read(path) == pytest.approx((seconds - missing) * RATE, abs=50)


def test_damage_in_the_middle_of_a_flac(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    sf.write(path, noise(20), RATE, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300_000] = bytes(300_000)
    path.write_bytes(data)
    fault(path, "expected 882000 frames")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "a.wav"
    signal = np.repeat(noise(3), 2, axis=1)
    signal[RATE * 2, 1] = bad
    sf.write(path, signal, RATE, subtype="FLOAT")
    fault(path, rf"found {bad} at frame 88200 \(2\.000 s\), channel 2")


@pytest.mark.parametrize("name", ["notes.wav", "notes.mp3", "notes.au", "notes.vox", "notes.raw"])
def test_text_under_an_audio_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("These are my notes on mastering.\n" * 500)
    error = fault(path, "no installed decoder opens")
    assert "soundfile: " in error.message


def test_random_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(np.random.default_rng(0).bytes(100_000))
    fault(path, "expected audio")


def test_without_pyav_the_hint_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\x00\x00\x00\x20ftypM4A " + bytes(1000))
    monkeypatch.setattr("jatsr_model.audio.decode.av_installed", lambda: False)
    assert "pip install 'jatsr[av]'" in fault(path, "no installed decoder").hint


def test_truncated_m4a(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(noise(10).T), format="fltp", layout="mono"
        )
        frame.sample_rate = RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    fault(path, r"expected 44[0-9]{4} frames")


def test_a_rate_that_changes_in_mid_stream(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.aac"
    for rate in (44100, 22050):
        part = tmp_path / f"{rate}.aac"
        with av.open(str(part), "w", format="adts") as container:
            stream = container.add_stream("aac", rate=rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(noise(1).T), format="fltp", layout="mono"
            )
            frame.sample_rate = rate
            container.mux([*stream.encode(frame), *stream.encode(None)])
        with path.open("ab") as file:
            file.write(part.read_bytes())
    fault(path, "changes in mid-stream")


def test_vanished_file(tmp_path: Path) -> None:
    fault(tmp_path / "gone.wav", "No such file")


def test_folder(tmp_path: Path) -> None:
    fault(tmp_path, "directory")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOMEM, errno.EMFILE])
def test_faults_of_the_machine_are_not_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "a.wav"
    sf.write(path, noise(1), RATE)
    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        open_audio(path)
    assert caught.value.errno == number


def test_too_many_channels(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, np.zeros((100, 9), np.float32), RATE)
    fault(path, "1 to 8 channels, found 9")


@pytest.mark.parametrize("container", ["MP3", "WAV", "FLAC"])
def test_leaving_early_closes_everything(tmp_path: Path, container: str) -> None:
    path = tmp_path / "a.bin"
    sf.write(path, noise(60), RATE, format=container)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    threads = threading.active_count()
    for _ in range(5):
        with open_audio(path) as audio:
            next(audio.blocks())
    assert threading.active_count() == threads
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
