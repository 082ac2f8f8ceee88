"""What has to be the same on every machine of a build: equal bytes come from equal software."""

from __future__ import annotations

import platform
from importlib import metadata

_LIBRARIES = ("jatsr", "numpy", "scipy", "soxr", "soundfile", "av", "mutagen", "pyarrow",
              "webdataset", "torch", "transformers")  # fmt: skip


def software() -> dict[str, str]:
    """Versions of Python, of what influences bytes, and of the stages; "none" where missing."""
    from pipeline.graph import STAGE_VERSIONS

    stages = {f"stage {name}": str(version) for name, version in STAGE_VERSIONS.items()}
    libraries = {name: _version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), **libraries, **stages}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"
