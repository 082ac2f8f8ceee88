"""Fixtures: an album, and builds without a command line; how sessions run."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from buckets import bucket, object_storage  # noqa: F401 - fixtures
from clusters import ray_cluster  # noqa: F401
from helpers import QuietUi, write_music
from hypothesis import settings
from parallel import pytest_collection_modifyitems, pytest_xdist_make_scheduler  # noqa: F401
from temporary import own_tmpdir, use_memory  # noqa: F401

use_memory()
settings.register_profile("any machine", deadline=None)  # slow ones are no less right
settings.load_profile("any machine")


def pytest_configure() -> None:
    """In the background of a shell SIGINT is ignored, and would be by what tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def build() -> Callable[..., object]:
    """Run a build from this process: ``build(source, dest, **options)``.

    ``around`` changes the engine that builds tracks.
    """
    from pipeline.build import Build
    from pipeline.engine_of import open_engines
    from pipeline.options import make_config

    def run(source, dest, *, rebuild=False, around=None, **options):
        sources = source if isinstance(source, list) else [source]
        defaults = {"captions": "none", "excerpt_seconds": 2.0}
        if options.get("engine", "local") == "local":
            defaults["workers"] = 0
        config = make_config({**defaults, **options})
        with open_engines(config) as engines:
            if around is not None:
                engines = replace(engines, work=around(engines.work))
            return Build(sources, dest, config, engines, QuietUi(), rebuild=rebuild).run()

    return run
