"""What jatsr and the named extras need, one requirement a line, with the parts of Ray for clusters.

python requirements.py EXTRA...
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """The dependencies in ``pyproject`` and those of its ``extras``.

    Raises:
        KeyError: there is no such extra.
    """
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    optional = [line for name in extras for line in project["optional-dependencies"][name]]
    # Dashboard, jobs and health checks: `ray job submit` and KubeRay talk to them.
    return [*project["dependencies"], *optional, "ray[default]"]


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(Path("pyproject.toml"), sys.argv[1:])) + "\n")
