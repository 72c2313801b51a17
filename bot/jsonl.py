"""Reading JSON Lines files from people: a bad line is named by file and number, and nothing of its content is repeated."""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bot.errors import UserError


def read_jsonl(path: Path, *, required: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file (plain or .gz). Raises UserError for a missing file, bad JSON, or a line without a required field."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _parse(line, f"{path}, line {number}", required)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not UTF-8 text"
        raise UserError(f"cannot read {path}: {reason}") from None


def _parse(line: str, where: str, required: Sequence[str]) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON (column {error.colno}): one object per line is expected") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: a {type(row).__name__}, where an object with {', '.join(required)} is expected")
    for name in required:
        if name not in row:
            raise UserError(f"{where}: the field '{name}' is missing")
        if not isinstance(row[name], str | int) or isinstance(row[name], bool):
            raise UserError(f"{where}: the field '{name}' is not text")
        row[name] = str(row[name])
    return row
