"""Packages that metrics use where they are installed."""

from __future__ import annotations

import importlib
from types import ModuleType


def optional(module: str, package: str) -> ModuleType | str:
    """Import a module, or say why that is not possible.

    Args:
        module: its name.
        package: what to install for it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = "" if error.name == module else f" (it needs {error.name})"
        return f"not installed{missing}: pip install {package}"
