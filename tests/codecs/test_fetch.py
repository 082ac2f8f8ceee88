"""Downloading from a server in this process: verified, recorded, atomic."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jatsr_model.codecs.fetch import FetchRequest, fetch
from jatsr_model.codecs.weights import WeightsError, read_source
from shards.errors import EnvironmentFailure
from shards.files import sha256_file


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def release(tmp_path: Path) -> Path:
    path = tmp_path / "server" / "0.0.1" / "weights.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(range(256)) * 9000)
    return path


@pytest.fixture
def request_(tmp_path: Path, release: Path) -> Iterator[FetchRequest]:
    handler = partial(_Quiet, directory=str(release.parents[1]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    yield FetchRequest(origin="github", folder=tmp_path / "cache", releases=address)
    server.shutdown()
    server.server_close()
    thread.join()


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_fetch_records_what_it_got(request_: FetchRequest, release: Path) -> None:
    path, source = fetch(request_)
    assert path.read_bytes() == release.read_bytes()
    assert source.sha256 == hashlib.sha256(release.read_bytes()).hexdigest()
    assert (read_source(path), source.revision) == (source, "0.0.1")
    assert source.url.endswith("/0.0.1/weights.pth")
    assert left_over(request_.folder) == ["weights.pth", "weights.pth.source.json"]


def test_a_second_fetch_needs_no_network(request_: FetchRequest) -> None:
    first = fetch(request_)
    assert fetch(replace(request_, releases="http://127.0.0.1:9")) == first


def test_a_wrong_hash_installs_nothing(request_: FetchRequest) -> None:
    with pytest.raises(WeightsError, match="--sha256"):
        fetch(replace(request_, sha256="0" * 64))
    assert left_over(request_.folder) == []


def test_changed_bytes_need_confirmation(request_: FetchRequest, release: Path) -> None:
    path, _ = fetch(request_)
    kept = path.read_bytes()
    release.write_bytes(b"new weights")
    with pytest.raises(WeightsError, match="trusted before") as caught:
        fetch(replace(request_, force=True))
    assert path.read_bytes() == kept
    digest = hashlib.sha256(b"new weights").hexdigest()
    assert digest in caught.value.hint
    fetch(replace(request_, force=True, sha256=digest))
    assert sha256_file(path) == digest


def test_a_damaged_cache_is_noticed_and_repaired(request_: FetchRequest, release: Path) -> None:
    path, _ = fetch(request_)
    path.write_bytes(b"cut")
    with pytest.raises(WeightsError, match="recorded"):
        fetch(request_)
    fetch(replace(request_, force=True))
    assert path.read_bytes() == release.read_bytes()


def test_network_failures_are_the_machines(request_: FetchRequest) -> None:
    with pytest.raises(EnvironmentFailure, match="404"):
        fetch(replace(request_, revision="9.9.9"))
    with pytest.raises(EnvironmentFailure, match="download"):
        fetch(replace(request_, releases="http://127.0.0.1:9"))
    assert left_over(request_.folder) == []


def test_the_hub_revision_is_recorded_as_a_commit(request_: FetchRequest, release: Path) -> None:
    root = release.parents[1]
    api = root / "api/models/descript/dac_44khz/revision/main"
    files = root / "descript/dac_44khz/resolve/c0ffee"
    for path, content in {
        api: json.dumps({"sha": "c0ffee"}),
        files / "config.json": "{}",
        files / "model.safetensors": "tensors",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    wanted = replace(request_, origin="huggingface", hub=request_.releases)
    path, source = fetch(wanted)
    assert source.revision == "c0ffee"
    assert source.url.endswith("/resolve/c0ffee/model.safetensors")
    assert path.read_text() == "tensors"
    assert (path.parent / "config.json").read_text() == "{}"
    assert fetch(replace(wanted, hub="http://127.0.0.1:9")) == (path, source)
    with pytest.raises(EnvironmentFailure, match="404"):
        fetch(replace(wanted, revision="other"))
    (files / "config.json").unlink()
    api.write_text("<html>a captive portal</html>")
    with pytest.raises(EnvironmentFailure, match="download"):
        fetch(replace(wanted, force=True))
    assert path.read_text() == "tensors"
