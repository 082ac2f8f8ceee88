"""``jatsr codec``: what it prints, and that the measurements are measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

from jatsr_model.codecs import encode
from jatsr_model.codecs.check import Checker
from jatsr_model.codecs.mdct import MdctCodec
from jatsr_model.codecs.weights import ENVIRONMENT
from jatsr_model.commands.codec import codec
from shards.errors import ConfigError


def run(*arguments: str) -> str:
    result = CliRunner().invoke(codec, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(ENVIRONMENT, raising=False)


def test_info_says_what_is_usable_and_what_is_missing() -> None:
    rows = {row["name"]: row for row in json.loads(run("info", "--device", "cpu", "--json"))}
    assert rows["mdct"]["usable"]
    assert rows["dac-44khz-untrained"]["usable"]
    assert not rows["dac-44khz"]["usable"]
    assert "jatsr codec fetch" in rows["dac-44khz"]["hint"]
    text = run("info", "--device", "cpu")
    assert "mdct: usable" in text
    assert "dac-44khz: not usable" in text


def test_info_reports_the_hash_of_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"state_dict": {}}, path)
    rows = json.loads(run("info", "--codec-weights", str(path), "--device", "cpu", "--json"))
    dac = next(row for row in rows if row["name"] == "dac-44khz")
    assert dac["weights"] == str(path)
    assert len(dac["identity"]["weights_sha256"]) == 64


def test_check_measures_files_of_any_rate(tmp_path: Path, music: Any) -> None:
    for name, rate in (("a.wav", 44_100), ("b.flac", 48_000)):
        soundfile.write(tmp_path / name, music(rate, channels=2).T, rate)
    found = json.loads(run("check", str(tmp_path / "a.wav"), str(tmp_path / "b.flac"), "--json"))
    assert found["codec"]["name"] == "mdct"
    for row in found["files"]:
        assert row["seconds"] == pytest.approx(1, abs=1e-3)
        assert row["channels"] == 2
        assert row["snr_db"] > 60
        assert row["lsd"] < 0.1
        assert row["encode_realtime"] > 1
        assert row["stored_mb_per_hour"] == pytest.approx(87 * 512 * 2 * 3600 / 1e6, rel=1e-3)


def test_check_without_files_uses_a_synthetic_signal() -> None:
    assert "(synthetic): 1.0 s x 2, round trip SNR" in run("check", "--seconds", "1")


def test_check_names_an_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"not audio")
    with pytest.raises(ConfigError, match=r"bad\.wav"):
        run("check", str(tmp_path / "bad.wav"))


def test_check_of_dac_compares_precisions(
    tiny_dac: Any, tiny_spec: Any, music: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "jatsr_model.codecs.check.load", lambda spec: tiny_dac(precision=spec.precision)
    )
    wave = music(44_100)
    found = Checker(tiny_spec).check("x", wave)
    half, full = tiny_dac(precision="bf16"), tiny_dac()
    same = np.mean(encode(half, wave) == encode(full, wave))
    assert found.bf16_agreement == pytest.approx(same)
    assert 0.5 < same < 1


def test_the_distance_is_that_of_the_metrics() -> None:
    """And there is none of less than a window."""
    from jatsr_model.codecs import CodecConfig, resolve
    from jatsr_model.metrics import lsd

    checker = Checker(resolve(CodecConfig()))
    wave = np.random.default_rng(0).standard_normal((2, 20_000)).astype(np.float32) * 1e-4
    z = checker.codec.latents(torch.from_numpy(encode(checker.codec, wave)))
    back = checker.codec.decode(z)[:, :20_000]
    expected = float(lsd(torch.from_numpy(wave), back).mean())
    assert checker.check("x", wave).lsd == pytest.approx(expected, rel=1e-4)
    assert expected > 0
    assert checker.check("x", wave[:, :2000]).lsd is None


def test_silence_has_no_snr() -> None:
    from jatsr_model.codecs import CodecConfig, resolve

    checker = Checker(resolve(CodecConfig()))
    assert isinstance(checker.codec, MdctCodec)
    assert checker.check("silence", np.zeros((1, 3000), np.float32)).snr_db is None
