"""Options: YAML and flags, and errors that name the flag."""

from __future__ import annotations

import pytest

from pipeline.config import BuildConfig
from pipeline.options import load_yaml, make_config
from shards.errors import ConfigError


def test_defaults_are_the_missions():
    config = make_config({})
    assert config == BuildConfig()
    assert [str(spec) for spec in config.low_res] == ["sinc:16000", "filters:2000-16000"]


def test_yaml_and_flags(tmp_path):
    path = tmp_path / "build.yaml"
    path.write_text("val-fraction: 0.2\nlr: [sinc:8000, mp3:64]\nloudness: off\nworkers: 3\n")
    config = make_config(load_yaml(path) | {"workers": 1})
    assert (config.val_fraction, config.workers, config.loudness) == (0.2, 1, None)
    assert config.lr == ("sinc:8000", "mp3:64")


def test_random_variants_are_drawn_several_times():
    config = make_config({"lr": ["sinc:16000", "filters:2000-8000"], "lr_variants": 3})
    assert [str(s) for s in config.low_res] == ["sinc:16000"] + ["filters:2000-8000"] * 3


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"val_fraction": 1.5}, "--val-fraction"),
        ({"lr": ["sinc:fast"]}, "--lr"),
        ({"lr": []}, "--lr"),
        ({"lr": ["sinc:8000"] * 17}, "--lr"),
        ({"loudness": "loud"}, "--loudness"),
        ({"loudness": 3}, "--loudness"),
        ({"workers": -1}, "--workers"),
        ({"workers": 1.5}, "--workers"),
        ({"workers": True}, "--workers"),
        ({"captions": "sidecar,guess"}, "--captions"),
        ({"excerpt_seconds": 0}, "--excerpt-seconds"),
        ({"shard_hours": 0}, "--shard-hours"),
        ({"channels": "quad"}, "--channels"),
        ({"split_by": "mood"}, "--split-by"),
        ({"limit": 0}, "--limit"),
        ({"strict": "yes"}, "--strict"),
        ({"max_failed": -0.1}, "--max-failed"),
    ],
)
def test_bad_values_name_their_flag(options, flag):
    with pytest.raises(ConfigError) as caught:
        make_config(options)
    assert flag in str(caught.value)


@pytest.mark.parametrize("text", ["speed: 3", "- a\n- b", "a: [", "\xff"])
def test_bad_yaml_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "build.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"build\.yaml"):
        load_yaml(path)
