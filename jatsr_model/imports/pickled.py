"""Reading files of torch.save without running code that they may hold."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jatsr_model.model_folder import ModelError

_HINT = "expected a checkpoint of the JaTSR training scripts (last.pt, best.pt)"


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """The dictionary of a checkpoint; its tensors stay in the file until they are used.

    Raises:
        ModelError: the file is not there, is damaged, holds objects, or is of another layout.
    """
    if not path.is_file():
        raise ModelError(f"there is no file {path}", hint="name the .pt file of a checkpoint")
    try:
        found = _load(path)
    except ModelError:
        raise
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} is damaged or holds more than tensors; loading it could run arbitrary code",
            hint=_HINT,
        ) from error
    except Exception as error:  # a damaged pickle trips over whatever its bytes happen to mean
        raise ModelError(f"{path} is damaged: {error!r}", hint="copy it again") from error
    if not isinstance(found, dict) or not isinstance(found.get("model_state_dict"), dict):
        raise ModelError(
            f"{path} should be a dictionary with 'model_state_dict'",
            hint=_HINT,
        )
    return found


def _load(path: Path) -> object:
    if path.stat().st_size == 0:
        raise ModelError(f"{path} is empty", hint="copy it again")
    zipped = zipfile.is_zipfile(path)
    if zipped:  # torch compares no checksums
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise ModelError(
                f"{path} is damaged: the checksum of {damaged} in it differs", hint="copy it again"
            )
    with torch.serialization.safe_globals(_numpy_values()):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


def _numpy_values() -> list[Any]:
    """What numpy's numbers and the state of its generator are made of, under old and new names."""
    made_by = {
        "_reconstruct": np.empty(0).__reduce__()[0],
        "scalar": np.float64(0).__reduce__()[0],
    }
    functions = [
        (function, f"numpy.{core}.multiarray.{name}")
        for name, function in made_by.items()
        for core in ("core", "_core")
    ]
    types = (type(np.dtype(name)) for name in ("uint32", "int64", "float32", "float64"))
    return [*functions, np.ndarray, np.dtype, *types]
