"""Where the benches keep what they fetch, build and write, and the one error they end with.

Knows places and how to run a command; nothing of what is measured.
"""

import fcntl
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
BENCH_DIR: Final = ROOT / ".bench"
PEERS_DIR: Final = BENCH_DIR / "peers"
MODELS_DIR: Final = BENCH_DIR / "models"
LOG_DIR: Final = PEERS_DIR / "logs"
_TAIL_LINES: Final = 12


class BenchError(Exception):
    """A measurement that cannot be made here. The message says what is missing and what to do."""


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold a lock between processes, so that two callers do not build the same thing at once."""
    BENCH_DIR.mkdir(parents=True, exist_ok=True)
    with (BENCH_DIR / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run_logged(command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, advice: str = "") -> None:
    """Run a command, its output going to a file. Raises BenchError with the output's end where it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        try:
            code = subprocess.run(  # noqa: S603 - the commands are our own
                command, stdout=file, stderr=subprocess.STDOUT, check=False, env={**os.environ, **(env or {})}
            ).returncode
        except FileNotFoundError:
            message = f"'{command[0]}' was not found; {advice or 'install it'}"
            raise BenchError(message) from None
    if code != 0:
        message = f"'{' '.join(command[:4])} ...' ended with code {code}; {advice or 'see the log'} ({log})\n{read_tail(log)}"
        raise BenchError(message)


def read_tail(log: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]) if log.exists() else ""
