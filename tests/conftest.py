"""Fixtures: an album, and builds without a command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import QuietUi, write_music


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine short tracks in mixed formats, rates and channel counts; never written to by tests."""
    root = tmp_path_factory.mktemp("album")
    formats = ["a/one.wav", "a/two.flac", "a/three.ogg", "b/four.mp3", "b/five.aiff", "b/six.opus",
               "c/seven.wav", "c/eight.flac", "c/nine.ogg"]  # fmt: skip
    rates = [44100, 48000, 44100, 44100, 22050, 48000, 96000, 32000, 44100]
    for seed, (name, rate) in enumerate(zip(formats, rates, strict=True)):
        write_music(root / name, 1.0 + 0.7 * seed, seed, rate, 1 + seed % 2)
    return root


@pytest.fixture
def build() -> Callable[..., object]:
    """Run a build in this process: ``build(source, dest, **options)``."""
    from pipeline.build import Build
    from pipeline.options import make_config

    def run(source: Path | list[Path], dest: Path, *, rebuild: bool = False, **options: object):
        sources = source if isinstance(source, list) else [source]
        defaults = {"workers": 0, "captions": "none", "excerpt_seconds": 2.0}
        config = make_config({**defaults, **options})
        return Build(sources, dest, config, QuietUi(), rebuild=rebuild).run()

    return run
