"""What mutagen lets through on hostile bytes."""

from __future__ import annotations

import struct
import zlib

import mutagen

# Besides its own errors: its parsers index, unpack, convert and allocate by numbers in the file.
PARSER_ERRORS = (
    mutagen.MutagenError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
