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
        with torch.serialization.safe_globals(_numpy_arrays()):
            found = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} is damaged or holds more than tensors; loading it could run arbitrary code",
            hint=_HINT,
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise ModelError(f"{path} is damaged: {error}", hint="copy it again") from error
    if not isinstance(found, dict) or not isinstance(found.get("model_state_dict"), dict):
        raise ModelError(
            f"{path} should be a dictionary with 'model_state_dict'",
            hint=_HINT,
        )
    return found


def _numpy_arrays() -> list[Any]:
    """What the state of numpy's generator in such a file consists of, under both of its names."""
    rebuild = np.empty(0).__reduce__()[0]
    names = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
    return [*((rebuild, name) for name in names), np.ndarray, np.dtype, np.dtypes.UInt32DType]
