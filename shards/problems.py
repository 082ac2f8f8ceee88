"""What a check of a dataset has found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shards.errors import FormatError


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be."""

    where: str
    what: str


@dataclass(frozen=True)
class Checked:
    """One thing that was checked, and what was wrong with it."""

    name: str
    problems: tuple[Problem, ...]


def guard(where: str, read: Callable[[], Any]) -> Any:
    """What is read, or the problem with it."""
    try:
        return read()
    except FormatError as error:
        return Problem(where, error.message)
