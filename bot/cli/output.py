"""How commands print: tables for people, JSON for scripts, one sentence for an error.

Knows nothing of what is printed.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from bot.errors import UserError

# Nothing that is printed is markup: labels, reasons and tickets may hold brackets and colons, and show as they are.
console = Console(markup=False, emoji=False)
errors = Console(stderr=True, markup=False, emoji=False)


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


@contextmanager
def open_replacing(path: Path) -> Iterator[TextIO]:
    """Open a text file that takes the place of `path` only when all of it is written. Raises UserError where that cannot be done."""
    if path.exists() and not path.is_file():  # a pipe or a terminal: there is nothing to replace
        with _say_unwritable(path), path.open("w", encoding="utf-8") as out:
            yield out
        return
    target = path.resolve()
    part = target.with_name(f"{target.name}.part")
    with _say_unwritable(path):
        try:
            with part.open("w", encoding="utf-8") as out:
                yield out
            part.replace(target)
        finally:
            with suppress(OSError):  # replaced, or never made; what went wrong is told already
                part.unlink(missing_ok=True)


@contextmanager
def _say_unwritable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or type(error).__name__}") from error


_LONGEST_WORD = 16
"""Letters of a word that a column keeps together; longer ones are folded."""


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; None is shown as a dash. A terminal too narrow for its words gets a list of fields per row, and nothing cut off."""
    cells = [["–" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [_measure([title, *(row[place] for row in cells)]) for place, title in enumerate(columns)]
    if rows and sum(widths) + 3 * len(columns) + 1 > console.width:
        _print_fields(title, columns, cells)
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column, min_width=width, overflow="fold")
    for row in cells:
        table.add_row(*row)
    console.print(table)


def _measure(texts: Sequence[str]) -> int:
    return min(max(len(word) for text in texts for word in text.split() or [""]), _LONGEST_WORD)


def _print_fields(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console.print(title, style="italic")
    for row in rows:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for column, cell in zip(columns, row, strict=True):
            if cell:
                grid.add_row(column, cell)
        console.print(grid)
        console.print()


def print_error(message: str) -> None:
    """Print one sentence on standard error."""
    errors.print(f"understudy: {message}", style="red", highlight=False, markup=False, soft_wrap=True)
