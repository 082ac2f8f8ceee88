"""Tags and header facts of real files of each format, and of ruined ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mutagen
import mutagen.id3 as id3
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.captions import HeaderFacts, Tags, probe, read_tags

FIELDS = {
    "title": "Dawn",
    "artist": "Ann Ö",
    "album": "Days",
    "genre": "Folk, Jazz",
    "date": "2019-05",
    "copyright": "(c) Ann",
    "comment": "live",
}
FORMATS = {
    "wav": ("WAV", "PCM_16", 44100),
    "aiff": ("AIFF", "PCM_16", 44100),
    "mp3": ("MP3", "MPEG_LAYER_III", 44100),
    "flac": ("FLAC", "PCM_16", 44100),
    "ogg": ("OGG", "VORBIS", 44100),
    "opus": ("OGG", "OPUS", 48000),
}


def write_audio(path: Path, seconds: float = 1.0) -> None:
    kind, subtype, rate = FORMATS[path.suffix[1:]]
    wave = np.random.default_rng(0).uniform(-0.1, 0.1, (int(seconds * rate), 2))
    soundfile.write(path, wave, rate, format=kind, subtype=subtype)


def write_tags(path: Path) -> None:
    file: Any = mutagen.File(path)
    if path.suffix in (".wav", ".aiff", ".mp3"):
        if file.tags is None:
            file.add_tags()
        frames = [
            id3.TIT2(text="Dawn"),
            id3.TPE1(text="Ann Ö"),
            id3.TALB(text="Days"),
            id3.TCON(text=["Folk", "(8)"]),  # ID3v1's number 8 is Jazz
            id3.TDRC(text="2019-05"),
            id3.TCOP(text="(c) Ann"),
            id3.COMM(lang="eng", desc="", text="live"),
            id3.TXXX(desc="LICENSE", text="CC BY 4.0"),
            id3.APIC(mime="image/png", data=b"\x89PNG" * 1000),
        ]
        for frame in frames:
            file.tags.add(frame)
    else:
        for name, value in FIELDS.items():
            file[name] = value
        file["genre"] = ["Folk", "Jazz"]
        file["LICENSE"] = "CC BY 4.0"
    file.save()


@pytest.mark.parametrize("suffix", list(FORMATS))
def test_every_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"song.{suffix}"
    write_audio(path)
    assert read_tags(path).sentence() == ""
    assert read_tags(path).note == ""
    write_tags(path)
    tags, facts = probe(path)
    assert tags.as_dict() == {**FIELDS, "license": "CC BY 4.0"}
    assert facts.seconds == pytest.approx(1.0, abs=0.08)
    # An Opus header holds no rate: it is always 48 kHz.
    rate = None if suffix == "opus" else 44100
    assert (facts.sample_rate, facts.channels) == (rate, 2)


def test_mp4(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=44100)
        for start in range(0, 44100, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 44100, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    file: Any = mutagen.File(path)
    file["\xa9nam"], file["\xa9ART"], file["\xa9alb"] = "Dawn", "Ann", "Days"
    file["\xa9gen"], file["cprt"] = "Folk", "(c) Ann"
    file.save()
    tags, facts = probe(path)
    assert tags.sentence() == "Dawn by Ann. From the album Days. Genre: Folk."
    assert tags.copyright == "(c) Ann"
    assert facts.seconds == pytest.approx(1.0, abs=0.1)
    assert facts.sample_rate == 44100


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        (Tags(), ""),
        (Tags(comment="x", date="1999", copyright="y"), ""),
        (Tags(title="Dawn"), "Dawn."),
        (Tags(title="Why?"), "Why?"),
        (Tags(artist="Ann"), "Music by Ann."),
        (Tags(genre="Folk"), "Genre: Folk."),
        (Tags(title="Dawn", artist="Ann", genre="Folk"), "Dawn by Ann. Genre: Folk."),
    ],
)
def test_sentences(tags: Tags, text: str) -> None:
    assert tags.sentence() == text


def test_hostile_values_are_cleaned(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    write_audio(path)
    file: Any = mutagen.File(path)
    file["title"] = "a\x00\x1b[31m\u202eb\n" + "c" * 100_000
    file.save()
    title = read_tags(path).title
    assert title.startswith("a[31mb ccc")
    assert len(title) == 300


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("tags")
    for suffix in FORMATS:
        write_audio(folder / f"x.{suffix}", 0.2)
        write_tags(folder / f"x.{suffix}")
    return {suffix: (folder / f"x.{suffix}").read_bytes() for suffix in FORMATS}


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    suffix=st.sampled_from(list(FORMATS)),
    hits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=30),
    keep=st.floats(0, 1),
)
def test_damaged_files_never_raise(
    tmp_path: Path,
    originals: dict[str, bytes],
    suffix: str,
    hits: list[tuple[float, int]],
    keep: float,
) -> None:
    raw = bytearray(originals[suffix])
    span = min(len(raw), 600)  # headers and tags lie here
    for where, value in hits:
        raw[int(where * (span - 1))] = value
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(raw[: int(len(raw) * max(keep, 0.01))])
    tags, facts = probe(path)
    assert all(len(value) <= 300 for value in tags.as_dict().values())
    assert facts.seconds is None or facts.seconds > 0


def test_foreign_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "x.mp3").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "empty.ogg").write_bytes(b"")
    for name in ("x.mp3", "empty.ogg", "missing.flac"):
        tags, facts = probe(tmp_path / name)
        assert tags.note
        assert tags.as_dict() == {}
        assert facts == HeaderFacts()
