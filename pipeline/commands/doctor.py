"""``jatsr doctor``."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Literal

import click

from pipeline.engines.base import Engine
from shards.errors import JatsrError, MissingExtraError
from shards.storage import open_store

State = Literal["ok", "missing", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was tried."""

    area: str
    name: str
    state: State
    detail: str
    required: bool = False


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(as_json: bool) -> None:
    """Say what works on this machine, by trying it.

    Exits with 1 if something is broken that every build needs.
    """
    findings = [*_machine(), *_libraries(), *_decoders(), *_codecs(), *_engines(), *_storage()]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        area = ""
        for finding in findings:
            if finding.area != area:
                area = finding.area
                click.echo(area)
            mark = {"ok": "ok", "missing": "--", "broken": "XX"}[finding.state]
            click.echo(f"  {mark}  {finding.name:<22} {finding.detail}")
    if any(f.required and f.state != "ok" for f in findings):
        raise SystemExit(1)


def _machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    yield Finding("machine", "system", "ok", f"{system}, {cores} cores")
    free = shutil.disk_usage(tempfile.gettempdir()).free
    yield Finding("machine", "temporary files", "ok", f"{free / 1e9:.0f} GB free")
    from jatsr_model.codecs.registry import compiler_found

    found = compiler_found("cpu")
    detail = "network codecs are compiled" if found else "network codecs run slower: install g++"
    yield Finding("machine", "C++ compiler", "ok" if found else "missing", detail)


def _libraries() -> Iterator[Finding]:
    for name in ("numpy", "scipy", "soxr", "soundfile", "pyarrow", "zarr", "webdataset", "torch",
                 "transformers"):  # fmt: skip
        try:
            yield Finding("libraries", name, "ok", metadata.version(name), required=True)
        except metadata.PackageNotFoundError:
            yield Finding("libraries", name, "missing", f"pip install {name}", required=True)
    import soundfile

    found = tuple(int(part) for part in soundfile.__version__.split(".")[:2])
    good = found >= (0, 14)
    yield Finding(
        "libraries",
        "libsndfile",
        "ok" if good else "broken",
        soundfile.__libsndfile_version__ + ("" if good else ": soundfile >= 0.14 is needed"),
        required=True,
    )


def _decoders() -> Iterator[Finding]:
    from jatsr_model.audio.decode import probe_decoders

    for name, result in probe_decoders().items():
        required = name in ("WAV", "FLAC")
        if result is True:
            yield Finding("decoders", name, "ok", "encoded and decoded a clip", required)
        else:
            yield Finding("decoders", name, "missing", str(result or "not available"), required)


def _codecs() -> Iterator[Finding]:
    from jatsr_model.codecs import CodecConfig, resolve

    for name in ("mdct", "dac-44khz"):
        try:
            spec = resolve(CodecConfig(name=name))
        except JatsrError as error:
            yield Finding("codecs", name, "missing", error.message.splitlines()[0], name == "mdct")
        else:
            detail = f"{spec.device}" + (
                f", {spec.weights}" if spec.weights else ", no weights needed"
            )
            yield Finding("codecs", name, "ok", detail, name == "mdct")
    yield _torch_device()


def _torch_device() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("codecs", "cuda", "ok", torch.cuda.get_device_name())
    return Finding("codecs", "cuda", "missing", "no GPU that torch can use: the CPU is used")


def _engines() -> Iterator[Finding]:
    from pipeline.engines.local import LocalEngine

    yield _tried("engines", "local", lambda: _run_engine(LocalEngine(1)), required=True)
    yield _tried("engines", "ray", _run_ray, required=False)


def _run_ray() -> str:
    from pipeline.engines.ray import RayEngine
    from pipeline.engines.ray_options import RayOptions

    with RayEngine(options=RayOptions(actors=1)) as engine:
        return f"{_run_engine(engine)}: {engine.describe()}"


def _run_engine(engine: Engine) -> str:
    from pipeline.engines.echo import EchoSession, EchoTask

    results = list(engine.run(EchoSession(), [EchoTask("a"), EchoTask("b")]))
    keys = sorted(result.key for result in results if hasattr(result, "key"))
    if keys != ["a", "b"]:
        raise RuntimeError(f"expected results a and b, found {keys}")
    return "started a worker process and got its results"


def _storage() -> Iterator[Finding]:
    def rename() -> str:
        with tempfile.TemporaryDirectory() as folder, open_store(folder).lock("lock"):
            open_store(folder).write("x", b"")
        return "locked a folder and wrote a file atomically"

    yield _tried("storage", "local files", rename, required=True)
    for address, package in (("s3://x", "s3fs"), ("gs://x", "gcsfs"), ("https://x", "aiohttp")):
        name = address.removesuffix("x")
        try:
            open_store(address)
        except MissingExtraError as error:
            yield Finding("storage", name, "missing", str(error.hint))
        else:
            detail = f"{package} {metadata.version(package)}; access is looked up when it is used"
            yield Finding("storage", name, "ok", detail)


def _tried(area: str, name: str, attempt: Callable[[], str], *, required: bool) -> Finding:
    try:
        return Finding(area, name, "ok", attempt(), required)
    except (JatsrError, OSError, RuntimeError) as error:
        return Finding(area, name, "broken", str(error), required)
