"""How commands print: tables for people, JSON for scripts, one sentence for an error.

Knows nothing of what is printed.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

console = Console()
errors = Console(stderr=True)


def _encode(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    message = f"{type(value).__name__} has no JSON form"
    raise TypeError(message)


def print_json(value: object) -> None:
    """Print a value as JSON on standard output, dataclasses and times included."""
    sys.stdout.write(json.dumps(value, default=_encode, indent=2, ensure_ascii=False) + "\n")


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, default=_encode, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; None is shown as a dash."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*["–" if cell is None else str(cell) for cell in row])
    console.print(table)


def print_error(message: str) -> None:
    """Print one sentence on standard error."""
    errors.print(f"understudy: {message}", style="red", highlight=False, markup=False, soft_wrap=True)
