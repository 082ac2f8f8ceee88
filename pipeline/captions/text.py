"""Cleaning of text that comes from outside."""

from __future__ import annotations

import unicodedata

_ELLIPSIS = "…"


def clean(text: str, limit: int) -> str:
    """One line of printable text.

    Control, format and surrogate characters go, runs of white space become one blank, the form
    is NFC, and what is longer than ``limit`` characters is cut (with an ellipsis).
    """
    kept = "".join(
        " " if char.isspace() else char
        # Only a prefix can survive the cut; this bounds the work on hostile input.
        for char in text[: 8 * limit]
        if char.isspace() or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Cn", "Co")
    )
    line = " ".join(unicodedata.normalize("NFC", kept).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + _ELLIPSIS


def sentence(text: str) -> str:
    """``text`` with a full stop, unless it ends a sentence already."""
    return text if text.endswith((".", "!", "?", _ELLIPSIS)) else text + "."
