"""What the checks of deploy/ share: the project's root, its linters, and what `make run` runs.

Knows no container engine: nothing is built or started here.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def need_tool() -> Callable[[str, str], str]:
    """Return the path of a linter, from the virtual environment first, or skip and say how to get it."""

    def find(name: str, source: str) -> str:
        found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
        if found is None:
            pytest.skip(f"{name} is not installed ({source})")
        return found

    return find


@pytest.fixture(scope="session")
def run_command() -> list[str]:
    """What `make run` runs after the set-up, without the folder it lies in: ["understudy", "serve"]."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
    printed = subprocess.run(["make", "--dry-run", "run"], cwd=ROOT, env=clean, capture_output=True, text=True, check=True).stdout
    command = shlex.split(printed.strip().splitlines()[-1])
    return [Path(command[0]).name, *command[1:]]
