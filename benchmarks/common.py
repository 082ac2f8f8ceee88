"""What the benchmarks share: running the command and measuring it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

_MEASURED = """
import json, os, resource, sys, time
sys.argv = ["jatsr", *sys.argv[1:]]
import cli
try:
    cli.main()
finally:
    peaks = [resource.getrusage(who).ru_maxrss for who in
             (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    with open(os.environ["JATSR_BENCHMARK"], "w") as file:
        json.dump(peaks, file)
"""


@dataclass(frozen=True)
class Measured:
    """One run of the command."""

    seconds: float
    peak_self: int  # bytes, the command's own process
    peak_child: int  # bytes, its largest child
    output: dict[str, Any]


def jatsr(*arguments: object) -> Measured:
    """Run ``jatsr ARGUMENTS --json`` and measure time and peak memory."""
    note = f"/tmp/jatsr-benchmark-{os.getpid()}.json"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *map(str, arguments), "--json"],
        stdout=subprocess.PIPE,
        env={**os.environ, "JATSR_BENCHMARK": note},
        check=True,
    )
    seconds = time.perf_counter() - began
    with open(note) as file:
        own, child = json.load(file)
    os.unlink(note)
    return Measured(seconds, own * 1024, child * 1024, json.loads(done.stdout))


def table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """Rows under a header, columns aligned."""
    cells = [header, *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def machine() -> str:
    """Cores and memory, for the heading of a table."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return f"{len(os.sched_getaffinity(0))} cores, {gigabytes:.0f} GB, {limit} files"
