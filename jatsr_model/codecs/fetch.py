"""Downloading the DAC weights once, with a record of what was downloaded.

Trust on first use: no hash is built into the program. The first fetch records the revision, the
address and the sha256 of what it got, every later load compares the file to that record, and a
later fetch that would change the bytes is refused unless their hash is given. Whoever knows the
right hash passes it as ``--sha256`` on the first fetch already.
"""

from __future__ import annotations

import os
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jatsr_model.codecs.weights import (
    Source,
    WeightsError,
    cache_folder,
    read_source,
    sha256_of,
)
from shards.errors import EnvironmentFailure

Origin = Literal["huggingface", "github"]
HUB_REPOSITORY = "descript/dac_44khz"
RELEASES = "https://github.com/descriptinc/descript-audio-codec/releases/download"
RELEASE = "0.0.1"
_HUB_FILES = ("config.json", "model.safetensors")
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
    """

    origin: Origin = "huggingface"
    revision: str = ""
    sha256: str = ""
    folder: Path
    force: bool = False
    releases: str = RELEASES

    @classmethod
    def to_cache(cls, origin: Origin, revision: str, sha256: str, *, force: bool) -> FetchRequest:
        """A request that fills the cache in which ``dac-44khz`` looks."""
        return cls(
            origin=origin, revision=revision, sha256=sha256, folder=cache_folder(), force=force
        )


def fetch(request: FetchRequest) -> tuple[Path, Source]:
    """Download, verify, record; files appear complete or not at all.

    Returns:
        the weight file and its record; an already fetched, intact file is returned as it is.

    Raises:
        WeightsError: the bytes are not those of ``--sha256`` or of the record.
        EnvironmentFailure: the network or the disk failed.
    """
    name = _HUB_FILES[1] if request.origin == "huggingface" else "weights.pth"
    target = request.folder / name
    known = read_source(target) if target.exists() and not request.force else None
    if known is not None and request.revision in ("", known.revision):
        _verify(target, known.sha256, "was recorded when it was first fetched")
        if request.sha256:
            _verify(target, request.sha256, "was given as --sha256")
        return target, known
    request.folder.mkdir(parents=True, exist_ok=True)
    partial = request.folder / f".{name}.partial"
    try:
        source = _download(request, partial)
        _accept(request, target, source)
        os.replace(partial, target)
        source.write(target)
    except OSError as error:  # also what urllib and huggingface_hub raise
        raise EnvironmentFailure(
            f"could not download the DAC weights: {error}",
            hint="check the network, or copy the file by hand and name it with --codec-weights",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return target, source


def _accept(request: FetchRequest, target: Path, source: Source) -> None:
    if request.sha256 and source.sha256 != request.sha256.lower():
        raise WeightsError(
            f"{source.url} has sha256 {source.sha256}, expected {request.sha256} (--sha256)",
            hint="check --revision and --sha256; nothing was installed",
        )
    known = read_source(target)
    if known is not None and known.sha256 != source.sha256 and not request.sha256:
        raise WeightsError(
            f"{source.url} has sha256 {source.sha256}, but {known.sha256} was trusted before",
            hint=f"if the change is intended, confirm it with --sha256 {source.sha256}",
        )


def _verify(path: Path, expected: str, why: str) -> None:
    found = sha256_of(path)
    if found != expected.lower():
        raise WeightsError(
            f"{path} has sha256 {found}, but {expected} {why}",
            hint="fetch again: jatsr codec fetch --force",
        )


def _download(request: FetchRequest, partial: Path) -> Source:
    if request.origin == "huggingface":
        return _from_hub(request, partial)
    revision = request.revision or RELEASE
    url = f"{request.releases}/{revision}/weights.pth"
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, partial.open("wb") as file:  # noqa: S310
        shutil.copyfileobj(answer, file, 1 << 20)
        expected = answer.headers.get("Content-Length")
    if expected is not None and partial.stat().st_size != int(expected):
        raise OSError(f"{url} ended after {partial.stat().st_size} of {expected} bytes")
    return Source(url=url, revision=revision, sha256=sha256_of(partial))


def _from_hub(request: FetchRequest, partial: Path) -> Source:
    import huggingface_hub

    wanted = request.revision or "main"
    commit = huggingface_hub.HfApi().model_info(HUB_REPOSITORY, revision=wanted).sha
    config, weights = (
        Path(huggingface_hub.hf_hub_download(HUB_REPOSITORY, name, revision=commit))
        for name in _HUB_FILES
    )
    shutil.copyfile(weights, partial)
    shutil.copyfile(config, request.folder / _HUB_FILES[0])
    url = f"https://huggingface.co/{HUB_REPOSITORY}/resolve/{commit}/{_HUB_FILES[1]}"
    return Source(url=url, revision=str(commit), sha256=sha256_of(partial))
