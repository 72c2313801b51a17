"""The systemd units: valid, tightly confined, and running the same commands as `make run` and the images."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.settings import get_env_names

UNITS = ("understudy.service", "understudy-training.service")
INSTALLED = "/opt/understudy/.venv/bin"
MAX_EXPOSURE = "20"  # tenths of systemd's own scale from 0 (confined) to 10 (exposed)


def read_values(unit: Path, key: str) -> list[str]:
    lines = unit.read_text(encoding="utf-8").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest, root: Path) -> Path:
    return root / "deploy" / request.param


@pytest.fixture
def installed_unit(unit: Path, tmp_path: Path) -> Path:
    """The unit with the path of this very environment, since systemd looks for the program it names."""
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text(encoding="utf-8").replace(INSTALLED, str(Path(sys.executable).parent)), encoding="utf-8")
    return copy


def test_systemd_accepts_the_unit(installed_unit: Path, need_tool: Callable[[str, str], str]):
    command = [need_tool("systemd-analyze", "part of systemd"), "verify", "--man=no", str(installed_unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if installed_unit.name in line]) == (0, [])


def test_unit_is_confined(installed_unit: Path, need_tool: Callable[[str, str], str]):
    analyzer = need_tool("systemd-analyze", "part of systemd")
    command = [analyzer, "security", "--offline=yes", "--no-pager", f"--threshold={MAX_EXPOSURE}", str(installed_unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_service_runs_what_make_run_runs(root: Path, run_command: list[str]):
    (command,) = read_values(root / "deploy" / "understudy.service", "ExecStart")
    assert shlex.split(command) == [f"{INSTALLED}/{run_command[0]}", *run_command[1:]]


def test_training_service_runs_the_daemon(root: Path):
    (command,) = read_values(root / "deploy" / "understudy-training.service", "ExecStart")
    assert shlex.split(command) == [f"{INSTALLED}/python", "-m", "training", "daemon"]


def test_unit_sets_only_settings_that_exist_and_no_secret(unit: Path):
    names = [value.partition("=")[0] for value in read_values(unit, "Environment")]
    settings = {name for name in names if name.startswith("UNDERSTUDY_")}
    assert settings
    assert settings <= set(get_env_names())
    assert not {name for name in names if "KEY" in name or "URL" in name or "TOKEN" in name}


def test_both_units_share_user_folder_and_environment_file(root: Path):
    first, second = (root / "deploy" / name for name in UNITS)
    for key in ("User", "StateDirectory", "EnvironmentFile", "WorkingDirectory"):
        assert read_values(first, key) == read_values(second, key) != []
