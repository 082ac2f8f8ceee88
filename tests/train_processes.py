"""``jatsr train`` as a process: watched through what it writes, and ended in every way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from trainings import PLAIN, command, options

TWO_RANKS = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "cli")
PATIENCE = 120.0  # seconds, for machines with much else to do
SMALL = {"batch_size": 2, "crop_frames": 16, "log_every": 1, "save_every": 5}

Process = subprocess.Popen[str]


def small(dataset: Path, folder: Path, **changes: Any) -> list[str]:
    """Arguments of a new training in a folder."""
    return [str(dataset), *at(folder), *options(**{**SMALL, **changes})]


def resumed(folder: Path, *more: str) -> list[str]:
    """Arguments with which it goes on."""
    return ["--resume", *at(folder), *more]


def at(folder: Path) -> list[str]:
    """Which training."""
    return ["--output", str(folder.parent), "--name", folder.name]


@contextmanager
def running(*arguments: object, program: Sequence[str] = PLAIN) -> Iterator[Process]:
    """A training that runs, in a session of its own; nothing is left of it."""
    process = command(*arguments, program=program)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ended(process: Process) -> tuple[int, str, str]:
    """Wait; exit code, standard output and standard error."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def trained(*arguments: object, program: Sequence[str] = PLAIN) -> str:
    """Train to the end; what was said."""
    with running(*arguments, program=program) as process:
        code, out, err = ended(process)
    assert code == 0, err
    assert "Traceback" not in err
    return out


def reach(process: Process, folder: Path, step: int, tag: str = "Loss/Total") -> None:
    """Wait until the log says something of a step, or a later one."""
    await_(lambda: any(line["step"] >= step and tag in line for line in _lines(folder)), process)


def await_(what: Callable[[], bool], process: Process | None = None) -> None:
    """Wait until something is so, while a process runs."""
    until = time.monotonic() + PATIENCE
    while not what():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def children(process: Process) -> list[psutil.Process]:
    """All processes that it has started."""
    return psutil.Process(process.pid).children(recursive=True)


def expect_gone(processes: list[psutil.Process]) -> None:
    """They end without being told."""
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE)
    assert alive == []


def _lines(folder: Path) -> list[dict[str, Any]]:
    """Whole lines of the log, if there is one."""
    with suppress(FileNotFoundError):
        text = (folder / "log.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]
    return []
