"""Downloading the DAC weights once, with a record of what was downloaded.

Trust on first use: no hash is built into the program. The first fetch records the revision, the
address and the sha256 of what it got, every later load compares the file to that record, and a
later fetch that would change the bytes is refused unless their hash is given. Whoever knows the
right hash passes it as ``--sha256`` on the first fetch already.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jatsr_model.codecs.weights import (
    Source,
    WeightsError,
    cache_folder,
    read_source,
)
from shards.errors import EnvironmentFailure
from shards.files import sha256_file

Origin = Literal["huggingface", "github"]
HUB_REPOSITORY = "descript/dac_44khz"
RELEASES = "https://github.com/descriptinc/descript-audio-codec/releases/download"
RELEASE = "0.0.1"
HUB = "https://huggingface.co"
_TIMEOUT = 60.0  # seconds without a byte


@dataclass(frozen=True, kw_only=True)
class FetchRequest:
    """What to download.

    Args:
        origin: ``huggingface`` (safetensors) or ``github`` (the original weights.pth).
        revision: branch, tag or commit of the hub repository, or the tag of the release; empty
            means ``main`` (recorded as the commit it points at) or 0.0.1.
        sha256: expected hash of the weight file; empty trusts the first download.
        folder: where to put the files.
        force: download again and replace what is there.
        releases: address the GitHub release assets lie under.
        hub: address of the hub or of a mirror of it.
    """

    origin: Origin = "huggingface"
    revision: str = ""
    sha256: str = ""
    folder: Path
    force: bool = False
    releases: str = RELEASES
    hub: str = HUB

    @classmethod
    def to_cache(cls, origin: Origin, revision: str, sha256: str, *, force: bool) -> FetchRequest:
        """A request that fills the cache in which ``dac-44khz`` looks."""
        return cls(
            origin=origin,
            revision=revision,
            sha256=sha256,
            folder=cache_folder(),
            force=force,
            hub=os.environ.get("HF_ENDPOINT") or HUB,
        )


def fetch(request: FetchRequest) -> tuple[Path, Source]:
    """Download, verify, record; files appear complete or not at all.

    Returns:
        the weight file and its record; an already fetched, intact file is returned as it is.

    Raises:
        WeightsError: the bytes are not those of ``--sha256`` or of the record.
        EnvironmentFailure: the network or the disk failed.
    """
    name = "model.safetensors" if request.origin == "huggingface" else "weights.pth"
    target = request.folder / name
    known = read_source(target) if target.exists() and not request.force else None
    if known is not None and request.revision in ("", known.revision):
        _verify(target, known.sha256, "was recorded when it was first fetched")
        if request.sha256:
            _verify(target, request.sha256, "was given as --sha256")
        return target, known
    request.folder.mkdir(parents=True, exist_ok=True)
    partial, config = (request.folder / f".{n}.partial" for n in (name, "config.json"))
    try:
        source = _download(request, partial, config)
        _accept(request, target, source)
        if config.exists():
            os.replace(config, request.folder / "config.json")
        os.replace(partial, target)
        source.write(target)
    except (OSError, KeyError, ValueError, http.client.HTTPException) as error:
        raise EnvironmentFailure(
            f"could not download the DAC weights: {error}",
            hint="check the network, or copy the file by hand and name it with --codec-weights",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
        config.unlink(missing_ok=True)
    return target, source


def _accept(request: FetchRequest, target: Path, source: Source) -> None:
    if request.sha256 and source.sha256 != request.sha256.lower():
        raise WeightsError(
            f"{source.url} has sha256 {source.sha256}, expected {request.sha256} (--sha256)",
            hint="check --revision and --sha256; nothing was installed",
        )
    try:
        known = read_source(target)
    except WeightsError:  # a damaged record is what --force is there to mend
        known = None
    if known is not None and known.sha256 != source.sha256 and not request.sha256:
        raise WeightsError(
            f"{source.url} has sha256 {source.sha256}, but {known.sha256} was trusted before",
            hint=f"if the change is intended, confirm it with --sha256 {source.sha256}",
        )


def _verify(path: Path, expected: str, why: str) -> None:
    found = sha256_file(path)
    if found != expected.lower():
        raise WeightsError(
            f"{path} has sha256 {found}, but {expected} {why}",
            hint="fetch again: jatsr codec fetch --force",
        )


def _download(request: FetchRequest, partial: Path, config: Path) -> Source:
    if request.origin == "github":
        revision = request.revision or RELEASE
        url = f"{request.releases}/{revision}/weights.pth"
    else:
        revision = _commit(request)
        folder = f"{request.hub}/{HUB_REPOSITORY}/resolve/{revision}"
        _save(f"{folder}/config.json", config)
        url = f"{folder}/model.safetensors"
    _save(url, partial)
    return Source(url=url, revision=revision, sha256=sha256_file(partial))


def _commit(request: FetchRequest) -> str:
    """The commit a branch or tag of the hub repository points at now."""
    wanted = request.revision or "main"
    url = f"{request.hub}/api/models/{HUB_REPOSITORY}/revision/{wanted}"
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:  # noqa: S310
        return str(json.load(answer)["sha"])


def _save(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, path.open("wb") as file:  # noqa: S310
        shutil.copyfileobj(answer, file, 1 << 20)
        expected = answer.headers.get("Content-Length")
    if expected is not None and path.stat().st_size != int(expected):
        raise OSError(f"{url} ended after {path.stat().st_size} of {expected} bytes")
