"""Order of caption sources, sidecar files, cleaning of text."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.captions import Caption, Measurements, Tags, parse_chain, resolve_caption
from pipeline.captions.sidecar import MAX_CHARACTERS, read_sidecar, sidecar_path
from pipeline.captions.text import clean
from shards.errors import ConfigError

FACTS = Measurements(72.0, 0.8, "A minor", 0.7, -30.0, 0.1)
TAGS = Tags(title="Dawn", artist="Ann")


def resolve(chain: str, path: Path, **given: object) -> tuple[Caption | None, int]:
    """The caption, and how often the audio was measured for it."""
    calls = 0

    def measured() -> Measurements:
        nonlocal calls
        calls += 1
        return FACTS

    caption = resolve_caption(
        parse_chain(chain),
        audio_path=path,
        tags=given.get("tags", TAGS),  # type: ignore[arg-type]
        measured=measured,
        model_caption=given.get("model"),  # type: ignore[arg-type]
    )
    return caption, calls


@pytest.mark.parametrize(
    "text",
    ["sidecar,tags,measured", "measured", "none", "tags,qwen2-audio:/models/q,measured"],
)
def test_chain_text_round_trip(text: str) -> None:
    chain = parse_chain(text)
    assert str(chain) == text
    assert parse_chain(str(chain)) == chain


def test_chain_ignores_blanks_and_reads_the_folder() -> None:
    chain = parse_chain(" sidecar , qwen2-audio:/m:1/q ")
    assert chain.sources == ("sidecar", "qwen2-audio")
    assert chain.model_path == Path("/m:1/q")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "magic",
        "sidecar,,tags",
        "tags,none",
        "tags,tags",
        "qwen2-audio",
        "qwen2-audio:",
        "tags:x",
    ],
)
def test_bad_chain_names_the_flag(text: str) -> None:
    with pytest.raises(ConfigError, match="--captions") as caught:
        parse_chain(text)
    assert caught.value.hint


def test_first_source_with_text_wins(tmp_path: Path) -> None:
    song = tmp_path / "a.b song.flac"
    caption, calls = resolve("sidecar,tags,measured", song)
    assert (caption, calls) == (Caption("Dawn by Ann.", "tags"), 0)
    sidecar_path(song).write_text("Soft piano.", encoding="utf-8")
    caption, _ = resolve("sidecar,tags,measured", song)
    assert caption == Caption("Soft piano.", "sidecar", {"file": "a.b song.txt"})
    caption, _ = resolve("tags,sidecar", song)
    assert caption is not None
    assert caption.source == "tags"


def test_measuring_happens_only_when_reached(tmp_path: Path) -> None:
    caption, calls = resolve("tags,measured", tmp_path / "x.wav", tags=Tags())
    assert calls == 1
    assert caption is not None
    assert caption.source == "measured"
    assert caption.detail["key"] == "A minor"
    caption, calls = resolve("qwen2-audio:/q,measured", tmp_path / "x.wav", model="A waltz.")
    assert (caption, calls) == (Caption("A waltz.", "qwen2-audio"), 0)
    assert resolve("none", tmp_path / "x.wav") == (None, 0)
    assert resolve("sidecar,qwen2-audio:/q", tmp_path / "x.wav") == (None, 0)


def test_undecodable_sidecar_is_passed_over_with_a_note(tmp_path: Path) -> None:
    song = tmp_path / "x.wav"
    sidecar_path(song).write_bytes("Gitarre für".encode("latin-1"))
    caption, _ = resolve("sidecar,tags", song, tags=Tags(title="Dawn"))
    assert caption is not None
    assert caption.text == "Dawn."
    assert "x.txt is not UTF-8" in caption.detail["passed_over"][0]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        (b"\xef\xbb\xbfwith mark", "with mark"),
        (b"  two\r\n\tlines \n", "two lines"),
        (b"nul\x00 bell\x07", "nul bell"),
        (b"", ""),
        (b" \n ", ""),
        ("é".encode() * 40_000, "é" * (MAX_CHARACTERS - 1) + "…"),
        (b"\xff\xfea\x00", ""),
    ],
)
def test_sidecar_bytes(tmp_path: Path, raw: bytes, text: str) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(raw)
    found = read_sidecar(path)
    assert found.text == text
    assert bool(found.note) == (not text)


def test_absent_and_unreadable_sidecars(tmp_path: Path) -> None:
    assert read_sidecar(tmp_path / "x.txt").note == ""
    (tmp_path / "x.txt").mkdir()
    assert "cannot be read" in read_sidecar(tmp_path / "x.txt").note


@given(st.text(), st.integers(2, 40))
def test_clean_text_is_one_printable_line(text: str, limit: int) -> None:
    line = clean(text, limit)
    assert len(line) <= limit
    assert line == " ".join(line.split())
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs") for char in line)
    assert clean(line, limit) == line
