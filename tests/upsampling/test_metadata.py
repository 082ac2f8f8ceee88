"""Tags and pictures survive, whatever the formats."""

from __future__ import annotations

import os
from pathlib import Path

import av
import mutagen
import numpy as np
import pytest
import soundfile as sf
from mutagen import id3
from mutagen.flac import FLAC
from mutagen.flac import Picture as FlacPicture
from mutagen.mp4 import MP4, MP4Cover
from sounds import tilted

from jatsr_model.audio.decode import open_audio
from jatsr_model.upsampling.audio_out import AudioSpec, audio_writer
from jatsr_model.upsampling.metadata import Metadata, Picture, read_metadata
from jatsr_model.upsampling.output_format import output_format

NAMES = ["b.wav", "b.flac", "b.ogg", "b.opus"]
FIELDS = {
    "TITLE": ("Größe",),
    "ARTIST": ("One", "Two"),
    "ALBUM": ("An album",),
    "ALBUMARTIST": ("Various",),
    "DATE": ("1998-04",),
    "GENRE": ("Ambient",),
    "TRACKNUMBER": ("3",),
    "TRACKTOTAL": ("12",),
    "DISCNUMBER": ("1",),
    "COMPOSER": ("C",),
    "COMMENT": ("first\nsecond line",),
    "LYRICS": ("la la",),
    "LICENSE": ("https://creativecommons.org/licenses/by/4.0/",),
    "COPYRIGHT": ("2020 somebody",),
    "REPLAYGAIN_TRACK_GAIN": ("-3.21 dB",),
    "MY OWN": ("x", "y"),
}
FRONT = Picture(b"\x89PNG\r\n\x1a\n" + os.urandom(70_000), "image/png", 3, "front")
BACK = Picture(b"\xff\xd8\xff" + os.urandom(900), "image/jpeg", 4, "")


def write(path, metadata):
    form = output_format(path)
    rate = form.file_rate(44100)
    signal = tilted(0.3, 3, rate=rate, channels=2)
    spec = AudioSpec(form, rate, 2, signal.shape[1], metadata=metadata)
    with audio_writer(path, spec) as writer:
        writer.write(signal)
    return writer


@pytest.mark.parametrize("name", NAMES)
def test_everything_comes_back(tmp_path, name):
    assert write(tmp_path / name, Metadata(FIELDS, (FRONT, BACK))).note == ""
    found = read_metadata(tmp_path / name)
    assert dict(found.fields) == FIELDS
    assert found.pictures == (FRONT, BACK)
    assert found.note == ""
    with open_audio(tmp_path / name) as audio:
        assert sum(map(len, audio.blocks())) == round(0.3 * audio.format.rate)


@pytest.mark.parametrize("kind", ["WAV", "RF64", "AIFF"])
def test_text_chunks_of_old_files_are_tags(tmp_path, kind):
    with sf.SoundFile(tmp_path / "a", "w", 44100, 1, format=kind) as file:
        file.title, file.artist, file.software = "Größe", "One", "an editor"
        file.write(np.zeros(1000))
    assert dict(read_metadata(tmp_path / "a").fields) == {"TITLE": ("Größe",), "ARTIST": ("One",)}


@pytest.mark.parametrize("name", NAMES)
def test_no_tags_are_no_tags(tmp_path, name):
    write(tmp_path / name, Metadata())
    assert read_metadata(tmp_path / name) == Metadata()


@pytest.mark.parametrize("name", NAMES)
def test_odd_values_do_not_break_a_file(tmp_path, name):
    odd = {"DATE": ("around 1970",), "TRACKNUMBER": ("A7",), "BPM": ("fast",), "TITLE": ("",)}
    assert write(tmp_path / name, Metadata(odd)).note == ""
    found = read_metadata(tmp_path / name)
    assert found.fields["DATE"] == ("around 1970",)
    assert found.fields["TRACKNUMBER"] == ("A7",)
    with open_audio(tmp_path / name) as audio:
        assert list(audio.blocks())


@pytest.fixture
def source(tmp_path):
    def make(name, **how):
        sf.write(tmp_path / name, np.zeros((20_000, 2)), 44100, **how)
        return tmp_path / name

    return make


def test_of_mp3(source):
    path = source("a.mp3")
    tags = id3.ID3()
    for frame in (
        id3.TIT2(text="T"),
        id3.TPE1(text=["A", "B"]),
        id3.TCON(text="(17)"),
        id3.TRCK(text="3/12"),
        id3.TDRC(text="2001"),
        id3.COMM(lang="eng", desc="", text="hello"),
        id3.COMM(lang="eng", desc="iTunNORM", text="0000 0000"),
        id3.USLT(lang="eng", desc="", text="words"),
        id3.TXXX(desc="replaygain_track_gain", text="-1 dB"),
        id3.WCOP(url="https://example.org/by"),
        id3.TSSE(text="LAME"),
        id3.TLEN(text="453"),
        id3.PRIV(owner="x", data=b"y"),
        id3.APIC(mime="image/png", type=3, desc="front", data=FRONT.data),
    ):
        tags.add(frame)
    tags.save(path)
    found = read_metadata(path)
    assert dict(found.fields) == {
        "TITLE": ("T",),
        "ARTIST": ("A", "B"),
        "GENRE": ("Rock",),
        "TRACKNUMBER": ("3",),
        "TRACKTOTAL": ("12",),
        "DATE": ("2001",),
        "COMMENT": ("hello",),
        "LYRICS": ("words",),
        "REPLAYGAIN_TRACK_GAIN": ("-1 dB",),
        "LICENSE": ("https://example.org/by",),
    }
    assert found.pictures == (FRONT,)


def test_of_flac_and_ogg(source):
    flac = FLAC(source("a.flac"))
    flac["title"], flac["encoder"] = ["T"], ["some encoder"]
    picture = FlacPicture()
    picture.data, picture.mime, picture.type, picture.desc = FRONT.data, FRONT.mime, 3, "front"
    flac.add_picture(picture)
    flac.save()
    assert read_metadata(Path(flac.filename)) == Metadata({"TITLE": ("T",)}, (FRONT,))
    assert read_metadata(source("a.ogg")) == Metadata()  # ENCODER=libsndfile is about the file


def test_of_mp4(tmp_path):
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as writer:
        stream = writer.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 20_000), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        writer.mux([*stream.encode(frame), *stream.encode(None)])
    tags = MP4(path)
    tags["©nam"], tags["©ART"], tags["trkn"] = ["T"], ["A", "B"], [(3, 12)]
    tags["disk"], tags["cpil"], tags["tmpo"] = [(1, 0)], True, [120]
    tags["----:com.apple.iTunes:LICENSE"] = [b"CC-BY"]
    tags["----:com.apple.iTunes:iTunSMPB"] = [b" 00000000"]
    tags["covr"] = [MP4Cover(FRONT.data, MP4Cover.FORMAT_PNG)]
    tags.save()
    found = read_metadata(path)
    assert dict(found.fields) == {
        "TITLE": ("T",),
        "ARTIST": ("A", "B"),
        "TRACKNUMBER": ("3",),
        "TRACKTOTAL": ("12",),
        "DISCNUMBER": ("1",),
        "COMPILATION": ("1",),
        "BPM": ("120",),
        "LICENSE": ("CC-BY",),
    }
    assert found.pictures == (Picture(FRONT.data, "image/png"),)


def test_of_wav_with_id3_after_the_samples(source):
    path = source("a.wav", subtype="PCM_16")
    wave = mutagen.File(path)
    wave.add_tags()
    wave.tags.add(id3.TIT2(text="T"))
    wave.save()
    assert read_metadata(path) == Metadata({"TITLE": ("T",)})


def test_damaged_and_foreign_files_give_a_note_at_most(tmp_path, source):
    (tmp_path / "x").write_bytes(b"no audio at all")
    assert read_metadata(tmp_path / "x") == Metadata()
    assert "cannot be read" in read_metadata(tmp_path / "missing").note
    whole = source("a.flac").read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole[: random.integers(4, 600)])
        data[random.integers(4, len(data) + 1) - 1] ^= 0xFF
        (tmp_path / "x").write_bytes(data)
        read_metadata(tmp_path / "x")


def test_a_picture_too_large_for_a_tag_is_left_out(tmp_path):
    huge = Picture(bytes(17 << 20), "image/png")
    path = tmp_path / "a.mp3"
    sf.write(path, np.zeros(5000), 44100)
    tags = id3.ID3()
    tags.add(id3.APIC(mime=huge.mime, type=3, desc="", data=huge.data))
    tags.save(path)
    found = read_metadata(path)
    assert found.pictures == ()
    assert "picture" in found.note
