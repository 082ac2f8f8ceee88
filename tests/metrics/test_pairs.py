"""Which file belongs to which."""

from __future__ import annotations

import pytest
import soundfile

from jatsr_model.metrics.pairs import find_pairs, missing_lines
from shards.errors import ConfigError, JatsrError


def folder(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".wav", ".flac", ".ogg"):
            soundfile.write(path, [0.0, 0.1] * 100, 8000)
        else:
            path.write_bytes(b"no audio")
    return root


def test_by_path_and_stem_whatever_the_ending(tmp_path):
    reference = folder(tmp_path / "r", "a.wav", "x/a.flac", "x/b.c.wav", "cover.jpg", ".x/h.wav")
    estimate = folder(tmp_path / "e", "a.flac", "x/a.wav", "x/b.c.ogg", "ledger.parquet")
    found = find_pairs(reference, estimate, estimate)
    assert [case.name for case in found.cases] == ["a", "x/a", "x/b.c"]
    assert not found.missing
    case = found.cases[0].load()
    assert list(case.candidates) == ["estimate", "input"]


def test_what_has_no_partner_is_listed(tmp_path):
    reference = folder(tmp_path / "r", "both.wav", "only_r.wav")
    estimate = folder(tmp_path / "e", "both.wav", "x/only_e.wav")
    low = folder(tmp_path / "l", "only_r.wav")
    found = find_pairs(reference, estimate, low)
    assert [case.name for case in found.cases] == ["both"]
    assert list(found.cases[0].load().candidates) == ["estimate"]
    assert [(item.flag, item.name) for item in found.missing] == [
        ("--low", "both"),
        ("--estimate", "only_r"),
        ("--reference", "x/only_e"),
        ("--low", "x/only_e"),
    ]
    lines = list(missing_lines(found.missing, at_most=1))
    assert lines[0].endswith("both.wav")
    assert "3 more" in lines[1]


def test_two_of_one_name_are_a_problem_of_that_case_only(tmp_path):
    reference = folder(tmp_path / "r", "a.wav", "b.wav")
    estimate = folder(tmp_path / "e", "a.wav", "a.flac", "b.wav")
    first, second = find_pairs(reference, estimate, None).cases
    with pytest.raises(JatsrError, match=r"--estimate: .*a\.flac, a\.wav"):
        first.load()
    assert second.load().name == "b"


def test_files_belong_together_as_they_are(tmp_path):
    folder(tmp_path, "one.wav", "two.flac")
    (case,) = find_pairs(tmp_path / "one.wav", tmp_path / "two.flac", None).cases
    assert case.name == "one"


def test_a_loop_of_links_is_walked_once(tmp_path):
    reference = folder(tmp_path / "r", "x/a.wav")
    (reference / "x" / "back").symlink_to(reference)
    assert [case.name for case in find_pairs(reference, reference, None).cases] == ["x/a"]


def test_what_cannot_be_compared_is_named(tmp_path):
    reference = folder(tmp_path / "r", "a.wav")
    with pytest.raises(ConfigError, match=r"--estimate .*no such"):
        find_pairs(reference, tmp_path / "none", None)
    with pytest.raises(ConfigError, match="--reference is a folder, --estimate is a file"):
        find_pairs(reference, reference / "a.wav", None)
    with pytest.raises(ConfigError, match=r"--low .*none"):
        find_pairs(reference, reference, folder(tmp_path / "l", "x.txt"))
