"""The command `mask`: one text, or a JSON Lines file as fast as its processes mask.

Knows files and order; what is masked is `bot.masking`'s business.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bot.cli.common import read_settings
from bot.cli.output import console, open_replacing
from bot.cli.tickets import FILE_OPTION, TEXT_ARGUMENT, read_text
from bot.errors import UserError

if TYPE_CHECKING:
    from bot.masking import Masked, MaskerPool, MaskingSettings

_FEW_ROWS = 64
"""Up to so many rows one process is faster: starting several takes as long as masking these."""

_MAX_WORKERS = 4
_IN_FLIGHT = 16
Submit = Callable[[str], "Future[Masked]"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(mask)


def mask(
    text: str | None = TEXT_ARGUMENT,
    file: str | None = FILE_OPTION,
    jsonl: Path | None = typer.Option(None, help="Mask every line of a JSON Lines file (also .gz) with `id` and `text`."),  # noqa: B008
    json_out: Path | None = typer.Option(None, "--json", help="With --jsonl: file to write, one object per line."),  # noqa: B008
    workers: int | None = typer.Option(
        None, min=0, max=64, help="With --jsonl: processes, about 200 MB each; 0 is this one. By default one per core, at most 4."
    ),
) -> None:
    """Mask personal data. With --jsonl IN --json OUT: per line `id`, `masked` and `spans` (start, end, type; code points of the input)."""
    from bot.masking import Masker

    settings = read_settings()
    if jsonl is None:
        for name, value in (("--json", json_out), ("--workers", workers)):
            if value is not None:
                raise UserError(f"{name} goes with --jsonl IN: the file to mask")
        console.print(Masker(settings.masking).mask(read_text(text, file)).text, highlight=False, soft_wrap=True)
        return
    if text is not None or file is not None:
        raise UserError("give --jsonl or a text, not both")
    if json_out is None:
        raise UserError("--jsonl needs --json OUT: the file to write")
    n_withheld = mask_file(settings.masking, jsonl, json_out, workers=workers)
    if n_withheld:
        console.print(f"{n_withheld} texts were withheld: their lines say why.", highlight=False)


def mask_file(settings: "MaskingSettings", source: Path, target: Path, *, workers: int | None = None) -> int:
    """Mask a JSON Lines file into another, in its order, and return how many texts were withheld.

    Such a line has `masked: null` and an `error`, never its text. Raises UserError, and writes nothing, for a file or a line that is no good.
    """
    if source.exists() and target.exists() and source.samefile(target):
        raise UserError(f"{target} would be read and written at once: name another file with --json")
    rows = read_rows(source)
    few = list(islice(rows, _FEW_ROWS + 1))  # a bad line near the start is told before anything is loaded
    if workers is None:
        workers = 0 if len(few) <= _FEW_ROWS else count_processes()
    n_withheld = 0
    with open_replacing(target) as out, _open_masker(settings, workers) as submit:
        for row_id, result in _mask_rows(chain(few, rows), submit, in_flight=_IN_FLIGHT * max(1, workers)):
            line = build_line(row_id, result)
            n_withheld += line["masked"] is None
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
    return n_withheld


def read_rows(source: Path) -> Iterator[tuple[str | int, str]]:
    """Yield id and text per line. Raises UserError, naming the line and nothing it holds, also where an id comes twice."""
    from bot.jsonl import read_numbered, replace_surrogates

    seen: dict[int, int] = {}  # hashes and line numbers: a million ids of any length fit into memory
    for where, row in read_numbered(source, required=("text",)):
        row_id = row.get("id")
        if not isinstance(row_id, str | int) or isinstance(row_id, bool):
            raise UserError(f"{where}: the field 'id' is missing or neither text nor a whole number")
        number = int(where.rpartition(" ")[2])
        row_id = replace_surrogates(row_id) if isinstance(row_id, str) else row_id
        first = seen.setdefault(hash(repr(row_id)), number)  # as written: the hashes of -1 and -2 are one
        if first != number:
            raise UserError(f"{where}: its id is that of line {first}; give each line an id of its own")
        yield row_id, row["text"]


def build_line(row_id: str | int, result: "Future[Masked]") -> dict[str, Any]:
    """One line of the result; of a text that was withheld only the reason."""
    from bot.masking import MaskingError

    try:
        masked = result.result()
    except MaskingError as error:
        return {"id": row_id, "masked": None, "spans": [], "error": str(error)}
    spans = [{"start": span.start, "end": span.end, "type": span.type} for span in masked.spans]
    return {"id": row_id, "masked": masked.text, "spans": spans}


def _mask_rows(
    rows: Iterator[tuple[str | int, str]], submit: Submit, *, in_flight: int
) -> Iterator[tuple[str | int, "Future[Masked]"]]:
    """Results in the order of the rows, of which only so many are in memory at a time."""
    line: deque[tuple[str | int, Future[Masked]]] = deque()
    for row_id, text in rows:
        line.append((row_id, submit(text)))
        if len(line) >= in_flight:
            yield line.popleft()
    yield from line


@contextmanager
def _open_masker(settings: "MaskingSettings", workers: int) -> Iterator[Submit]:
    """A way to have texts masked, in that many processes or, with 0, in this one."""
    from bot.masking import Masker, MaskingError

    def mask_now(text: str) -> "Future[Masked]":
        result: Future[Masked] = Future()
        try:
            result.set_result(masker.mask(text))
        except MaskingError as error:
            result.set_exception(error)
        return result

    if workers == 0:
        masker = Masker(settings)
        yield mask_now
        return
    with open_pool(settings, workers=workers) as pool:
        yield pool.submit


def count_processes() -> int:
    """How many processes bulk work masks in, unless told otherwise."""
    return min(_MAX_WORKERS, os.cpu_count() or 1)


@contextmanager
def open_pool(settings: "MaskingSettings", *, workers: int) -> "Iterator[MaskerPool]":
    """Start that many masking processes for bulk work, and end them."""
    import asyncio

    from bot.masking import MaskerPool

    pool = MaskerPool(settings.model_copy(update={"workers": workers}), keeps_room=False)
    asyncio.run(pool.start())
    try:
        yield pool
    finally:
        asyncio.run(pool.stop())
