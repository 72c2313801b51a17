"""Reading exports row by row: CSV, JSON Lines and Zendesk's JSON, plain or .gz. A row that cannot be read is handed out as such.

Knows formats, not what the fields mean. Memory holds one row at a time, except for a Zendesk export that is one single JSON document.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from bot.errors import UserError
from bot.import_map import ImportMap
from bot.jsonl import describe_unreadable

MAX_FIELD_CHARS = 10_000_000


@dataclass(frozen=True)
class RawRow:
    """One row: where it stands, and its fields, or why there are none and what stands there instead."""

    line: int
    fields: Mapping[str, Any] | None
    problem: str = ""
    raw: str = ""


def read_export(path: Path, mapping: ImportMap) -> Iterator[RawRow]:
    """Yield the rows of a file. Raises UserError for a file that cannot be read at all."""
    form = mapping.format or ("csv" if ".csv" in path.suffixes else "jsonl")
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            if form == "csv":
                yield from _read_csv(file, path, mapping=mapping)  # type: ignore[arg-type]
            elif form == "zendesk":
                yield from _read_zendesk(file, path)  # type: ignore[arg-type]
            else:
                yield from _read_lines(file)  # type: ignore[arg-type]
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {describe_unreadable(error)}") from None


def _read_csv(file: BinaryIO, path: Path, *, mapping: ImportMap) -> Iterator[RawRow]:
    csv.field_size_limit(MAX_FIELD_CHARS)  # the usual limit of 131,072 is less than a long conversation
    text = io.TextIOWrapper(file, encoding=mapping.encoding, newline="")
    reader = csv.DictReader(text, delimiter=mapping.delimiter, strict=True)
    try:
        names = reader.fieldnames or []
        if len(set(names)) != len(names):
            raise UserError(f"{path}: the first line names a column twice; rename one of them")
        for row in reader:
            extra = row.pop(None, None)  # where csv puts cells beyond the last column
            if extra is not None:
                yield RawRow(
                    reader.line_num, None, problem="it has more cells than the first line names", raw=json.dumps([row, extra])
                )
            elif None in row.values():
                yield RawRow(reader.line_num, None, problem="it has fewer cells than the first line names", raw=json.dumps(row))
            else:
                yield RawRow(reader.line_num, row)
    except UnicodeDecodeError:
        raise UserError(
            f"{path}, after line {reader.line_num}: not {mapping.encoding} text; say `encoding: cp1252` (or what it is) in the mapping"
        ) from None
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: {error}; nothing after this line was read, correct it and import again"
        ) from None
    finally:
        text.detach()  # the caller closes the file


def _read_lines(file: BinaryIO) -> Iterator[RawRow]:
    for line, content in enumerate(file, start=1):
        if content.strip():
            yield _parse(line, content)


def _parse(line: int, content: bytes) -> RawRow:
    try:
        fields = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        problem = "it is not UTF-8 text"
    except (ValueError, RecursionError):  # bad JSON, or a number of too many digits
        problem = "it is not valid JSON: one object per line is expected"
    else:
        if isinstance(fields, dict):
            return RawRow(line, fields)
        problem = f"it is a {type(fields).__name__}, where an object is expected"
    return RawRow(line, None, problem=problem, raw=content.decode("utf-8", "backslashreplace").rstrip("\r\n"))


def _read_zendesk(file: BinaryIO, path: Path) -> Iterator[RawRow]:
    """Yield tickets from one per line, from pages of the API ({"tickets": [...]}) one per line, or from one document."""
    first = file.readline()
    row = _parse(1, first)
    if row.fields is None and file.read(1):
        file.seek(0)
        try:
            document = json.loads(file.read())
        except (ValueError, RecursionError):
            file.seek(0)
            for broken in _read_lines(file):
                yield from _unfold(broken)
            return
        pages = document if isinstance(document, list) else [document]
        for page in pages:
            yield from _unfold(RawRow(1, page) if isinstance(page, dict) else RawRow(1, None, problem="it is no ticket"))
        return
    file.seek(0)
    is_empty = True
    for parsed in _read_lines(file):
        is_empty = False
        yield from _unfold(parsed)
    if is_empty:
        raise UserError(f"{path} is empty: give the export that Zendesk wrote")


def _unfold(row: RawRow) -> Iterator[RawRow]:
    if row.fields is None:
        yield row
    elif isinstance(row.fields.get("tickets"), list):
        for ticket in row.fields["tickets"]:
            if isinstance(ticket, dict):
                yield RawRow(row.line, ticket)
            else:
                yield RawRow(row.line, None, problem="its tickets hold something that is no ticket", raw=json.dumps(ticket))
    elif isinstance(row.fields.get("ticket"), dict):
        yield RawRow(row.line, row.fields["ticket"])
    else:
        yield row
