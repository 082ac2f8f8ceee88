"""``silence.npy`` is read only if it is the one that was published, and of the right shape."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from datasets import ROWS, write_dataset

from shards.errors import FormatError
from shards.layout import SILENCE
from shards.silence import read_silence
from shards.storage import LocalStore
from shards.tar import npy_bytes


def test_the_published_frame(tmp_path):
    frame = read_silence(tmp_path, write_dataset(tmp_path, 1, 1))
    assert (frame.shape, frame.dtype) == ((ROWS, 1), np.float16)


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        (np.zeros((ROWS, 2), np.float16), rf"\({ROWS}, 1\), found float16 \({ROWS}, 2\)"),
        (np.zeros((ROWS, 1), np.uint16), "expected float16 .* found uint16"),
    ],
)
def test_another_shape_or_type(tmp_path, frame, found):
    manifest, data = write_dataset(tmp_path, 1, 1), npy_bytes(frame)
    LocalStore(tmp_path).write(SILENCE, data)
    with pytest.raises(FormatError, match="expected sha256"):
        read_silence(tmp_path, manifest)
    hashed = {**manifest.files, SILENCE: hashlib.sha256(data).hexdigest()}
    with pytest.raises(FormatError, match=found):
        read_silence(tmp_path, replace(manifest, files=hashed))


def test_it_is_missing(tmp_path):
    manifest = write_dataset(tmp_path, 1, 1)
    unlisted = {k: v for k, v in manifest.files.items() if k != SILENCE}
    with pytest.raises(FormatError, match="expected sha256 none"):
        read_silence(tmp_path, replace(manifest, files=unlisted))
    (tmp_path / SILENCE).unlink()
    with pytest.raises(FormatError, match="found none") as caught:
        read_silence(tmp_path, manifest)
    assert "jatsr build" in caught.value.hint
