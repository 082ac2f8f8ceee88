"""``make demo`` itself, in an environment that is installed already."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_demo_builds_verifies_and_has_nothing_to_do_the_second_time(tmp_path):
    # The demo as it is, but written to another folder and without installing anything.
    venv = Path(sys.prefix)
    command = [
        "make",
        "-C",
        str(ROOT),
        "demo",
        f"DEMO={tmp_path}",
        f"VENV={venv}",
        "-o",
        f"{venv}/.run",
    ]
    first = subprocess.run(command, capture_output=True, text=True, timeout=170)
    assert first.returncode == 0, first.stderr
    assert "12 ok" in first.stdout
    assert "verified" in first.stdout
    assert (tmp_path / "dataset" / "dataset.json").exists()
    began = time.perf_counter()
    second = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert second.returncode == 0, second.stderr
    assert "nothing to do" in second.stdout
    assert time.perf_counter() - began < 30
