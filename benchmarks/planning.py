"""Time and memory to scan and plan many small files; and the time of jatsr --help.

python benchmarks/planning.py [--files 100000]
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from common import jatsr, machine, table


def write_files(folder: Path, count: int) -> None:
    """Tiny WAV files, all different, a thousand to a folder."""
    header = b"RIFF" + struct.pack("<I", 36 + 512) + b"WAVEfmt " + struct.pack(
        "<IHHIIHH", 16, 1, 1, 44100, 88200, 2, 16
    ) + b"data" + struct.pack("<I", 512)  # fmt: skip
    for index in range(count):
        path = folder / f"{index // 1000:04d}" / f"{index:06d}.wav"
        if index % 1000 == 0:
            path.parent.mkdir(parents=True)
        tail = ((index * 31 + k) % 997 for k in range(254))
        path.write_bytes(header + struct.pack("<256h", index % 30_000, index // 30_000, *tail))


@click.command()
@click.option("--files", default=100_000, show_default=True)
def main(files: int) -> None:
    """Measure."""
    folder = Path(tempfile.mkdtemp(prefix="jatsr-benchmark-"))
    write_files(folder / "in", files)
    done = jatsr("build", folder / "in", folder / "out", "--dry-run")
    shutil.rmtree(folder)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import cli; cli.main()", "--help"],
                       check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        times.append(time.perf_counter() - began)
    click.echo(machine())
    click.echo(
        table(
            ("what", "measured"),
            [
                (f"planning {files} files", f"{done.seconds:.1f} s"),
                ("peak of the command", f"{done.peak_self / 1e6:.0f} MB"),
                ("peak of its largest child", f"{done.peak_child / 1e6:.0f} MB"),
                ("jatsr --help", f"{sorted(times)[2]:.2f} s"),
            ],
        )
    )


if __name__ == "__main__":
    main()
