"""Figures of alternating runs, what machine they are from, and how they are shown and written.

Knows medians, ratios and the JSON file; nothing of what was measured.
"""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benches.paths import BENCH_DIR

_PACKAGES: Final = ("llama-cpp-python", "torch", "transformers", "numpy")
_CPU_FLAGS: Final = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16")


class Samples:
    """One list of measurements per name, in the order of the rounds."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        """Keep a measurement."""
        self._values.setdefault(name, []).append(value)

    def medians(self) -> dict[str, float]:
        """Return each name's median."""
        return {name: median(values) for name, values in self._values.items()}

    def ratio(self, ours: str, theirs: str) -> float:
        """Return the median of the rounds' ratios: both sides of a round ran within seconds of each other."""
        return median(a / b for a, b in zip(self._values[ours], self._values[theirs], strict=True))

    def runs(self) -> dict[str, list[float]]:
        """Return all measurements, rounded."""
        return {name: [round(value, 2) for value in values] for name, values in self._values.items()}


def describe_machine(*, threads: int) -> dict[str, Any]:
    """Return what the figures depend on: processor, cores, threads, versions."""
    cpu = _read_cpu()
    flags = set(cpu.get("flags", "").split())
    return {
        "cpu_model": cpu.get("model name", platform.processor() or platform.machine()),
        "cpu_flags": [flag for flag in _CPU_FLAGS if flag in flags],
        "n_cores": os.cpu_count() or 0,
        "n_threads": threads,
        "load_before": round(os.getloadavg()[0], 2),
        "python_version": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: _find_version(name) for name in _PACKAGES},
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _find_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _read_cpu() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    lines = path.read_text().split("\n\n", 1)[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def write_json(name: str, figures: Mapping[str, Any], *, keep: bool = False) -> Path:
    """Write `.bench/<name>.json`; `keep` leaves figures of other sections in place. Numbers have three decimals."""
    path = BENCH_DIR / f"{name}.json"
    before = json.loads(path.read_text()) if keep and path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_round({**before, **figures}), indent=1, sort_keys=True) + "\n")
    return path


def _round(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, Mapping):
        return {key: _round(inner) for key, inner in value.items()}
    return [_round(inner) for inner in value] if isinstance(value, list | tuple) else value


def print_table(title: str, rows: Sequence[tuple[str, str, str]]) -> None:
    """Show (what, figure, bar or remark)."""
    table = Table(title=title, title_justify="left")
    for heading in ("what", "measured", "bar or remark"):
        table.add_column(heading)
    for row in rows:
        table.add_row(*row)
    Console(file=sys.stdout).print(table)
