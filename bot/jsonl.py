"""Reading JSON Lines files from people: a bad line is named by file and number, and nothing of its content is repeated."""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bot.errors import UserError


def read_jsonl(path: Path, *, required: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file (plain or .gz). Raises UserError for a missing file, bad JSON, or a line without a required field."""
    for _, row in read_numbered(path, required=required):
        yield row


def read_numbered(path: Path, *, required: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each object of a file after where it stands, such as "rows.jsonl, line 3". Raises UserError as `read_jsonl` does."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield where, _parse(line, where, required)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {describe_unreadable(error)}") from None


def describe_unreadable(error: Exception) -> str:
    """Say why a file cannot be read, without repeating any of it."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if isinstance(error, gzip.BadGzipFile | EOFError | zlib.error):
        return "it is not a whole gzip file"
    return getattr(error, "strerror", None) or type(error).__name__


def replace_surrogates(text: str) -> str:
    """Put '?' in place of each lone surrogate: no database and no file can hold one. Positions stay as they were."""
    return text.encode(errors="replace").decode()


def _parse(line: str, where: str, required: Sequence[str]) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON (column {error.colno}): one object per line is expected") from None
    except RecursionError:
        raise UserError(f"{where}: nested too deeply: one flat object per line is expected") from None
    except ValueError:  # more digits than Python turns into a number
        raise UserError(f"{where}: it holds a number with too many digits: write it as text") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: a {type(row).__name__}, where an object with {', '.join(required)} is expected")
    for name in required:
        if name not in row:
            raise UserError(f"{where}: the field '{name}' is missing")
        if not isinstance(row[name], str | int) or isinstance(row[name], bool):
            raise UserError(f"{where}: the field '{name}' is not text")
        row[name] = replace_surrogates(str(row[name]))
    return row
